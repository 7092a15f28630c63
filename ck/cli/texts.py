"""Texts that a model reads in windows: reading them, naming them, and a word about the windows' length."""

import io
import sys
from pathlib import Path

STDIN = "-"


def read_text(path: str) -> str:
    """The text, byte for byte but for one newline at its end, which llama.cpp's tools drop too.

    `path` is a file, or - for standard input. Raises UsageError, MalformedError.
    """
    from ck.errors import MalformedError, UsageError

    try:
        # Started with standard input closed, Python has none.
        stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
        data = stdin.read() if path == STDIN else Path(path).read_bytes()
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{text_name(path)}: must be UTF-8, byte {error.start} is not") from error
    except OSError as error:
        raise UsageError(f"{path}: must be a readable file, {error.strerror}") from error


def text_name(path: str) -> str:
    """What messages call it."""
    return "standard input" if path == STDIN else path


def warn_of_length(model: str, trained: int, n_ctx: int) -> None:
    """Say so when windows are longer than what the model was trained on."""
    import warnings

    from ck.errors import CkWarning

    if n_ctx > trained:
        line = f"{model}: was trained on {trained} tokens of context, windows have {n_ctx}"
        warnings.warn(line, CkWarning, stacklevel=2)
