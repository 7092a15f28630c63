"""Fuzz target of the GGUF reader, for atheris: any bytes end in a model or in one of two errors.

    python -m tests.fuzz.gguf_reader [libFuzzer's options] FOUND tests/fuzz/corpus

`make fuzz` runs it for five minutes. An input is a header: the file that is read has as many bytes of zeros
behind it as the valid headers of the corpus need, so that inputs stay small. Header, numbers, vocabulary,
tokenizer and template are read, no graph is built. `--seeds` alone writes the corpus' first files anew.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import atheris

from tests.fuzz.grown import write_grown

CORPUS = Path(__file__).with_name("corpus")
MAX_BYTES = 16_384
# What coverage is taken of; each is imported before anything that needs it.
INSTRUMENTED = (
    "gguf",
    "model",
    "hyperparameters",
    "vocabulary",
    "tokenizer",
    "piece_merges",
    "architectures",
)


def target(path: Path) -> Callable[[bytes], None]:
    """Reads an input as the file at `path`; raises what must never be raised."""
    with atheris.instrument_imports(include=["ck.frontend"]):
        for name in INSTRUMENTED:
            import_module(f"ck.frontend.{name}")
    from ck.errors import MalformedError, UnsupportedError
    from tests.frontend.reading import read_header

    def one_input(data: bytes) -> None:
        write_grown(path, data)
        with warnings.catch_warnings():
            # A number that overflows is a number that was not checked.
            warnings.simplefilter("error")
            try:
                read_header(path)
            except (MalformedError, UnsupportedError) as error:
                if "\n" in str(error):
                    raise RuntimeError(f"an error must be one line: {error}") from error

    return one_input


def write_seeds() -> None:
    """The headers of valid files of both kinds of vocabulary."""
    from tests.frontend.make_gguf import write_tiny
    from tests.frontend.raw_gguf import parse

    with tempfile.TemporaryDirectory() as folder:
        for pairs in (False, True):
            raw = parse(write_tiny(Path(folder) / "tiny.gguf", pairs).read_bytes())
            (CORPUS / f"seed-{'pairs' if pairs else 'pieces'}").write_bytes(raw.head())


def write_words(path: Path) -> None:
    """libFuzzer's dictionary: names and values that a header may have."""
    from tests.frontend.hostile import NUMBERS, OTHERS, WORDS

    names = [*OTHERS, *(f"llama.{name}" for name in NUMBERS), *WORDS]
    quoted = ("".join(f"\\x{byte:02x}" for byte in name.encode()[:60]) for name in names if name)
    path.write_text("".join(f'"{word}"\n' for word in dict.fromkeys(quoted)))


def main() -> None:
    if sys.argv[1:] == ["--seeds"]:
        write_seeds()
        return
    folder = Path(tempfile.mkdtemp(prefix="ck-fuzz-"))
    one_input = target(folder / "x.gguf")
    write_words(folder / "words")
    options = [f"-dict={folder / 'words'}", f"-max_len={MAX_BYTES}", "-timeout=5", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
