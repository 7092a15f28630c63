"""Do the tokens that end a reply equal llama.cpp's, for its own vocabulary files and for any other GGUF file.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_stop_tokens.py [MODEL.gguf ...]

Files whose kind of vocabulary ck does not have are counted as not compared. A </s> that a vocabulary has as a
word, for markup, ends a reply in llama.cpp alone. Exit code 5 when there is another difference.
"""

import argparse
import sys
from pathlib import Path

import llama_cpp
from check_export import ask

from ck.errors import CkError, UnsupportedError
from ck.frontend.gguf import GgufFile
from ck.frontend.vocabulary import TokenType, read_vocabulary
from ck.runtime.paths import private_dir


def difference(model: Path) -> str | None:
    """How ck's tokens differ from llama.cpp's; None when they do not. Raises UnsupportedError, GateError."""
    metadata = GgufFile(model).metadata
    found = read_vocabulary(metadata, len(metadata.strings("tokenizer.ggml.tokens")))
    theirs = {int(words[0]) for words in ask(model, "ends", stdin=b"")}
    markup = found.index.get("</s>", -1)
    if markup >= 0 and found.types[markup] != TokenType.CONTROL:
        theirs -= {markup}
    if found.eog_ids == theirs:
        return None
    sides = {"ck alone": found.eog_ids - theirs, "llama.cpp alone": theirs - found.eog_ids}
    return "; ".join(f"{who}: {[found.tokens[n] for n in sorted(ids)]}" for who, ids in sides.items() if ids)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the tokens that end a reply with llama.cpp's.")
    parser.add_argument("models", nargs="*", type=Path, help="GGUF files beside llama.cpp's own")
    given, n_equal, n_other, failed = parser.parse_args(), 0, 0, False
    try:
        source = llama_cpp.fetch_source(private_dir(llama_cpp.folder()))
        for model in [*sorted((source / "models").glob("ggml-vocab-*.gguf")), *given.models]:
            try:
                text = difference(model)
            except UnsupportedError as error:
                n_other += 1
                print(f"{model.name}: not compared: {error}")
                continue
            n_equal += text is None
            failed |= text is not None
            print(f"{model.name}: {text or 'equal'}")
    except CkError as error:
        print(f"check_stop_tokens.py: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{n_equal} equal, {n_other} not compared")
    return 5 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
