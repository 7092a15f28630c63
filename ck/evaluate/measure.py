"""The two measurements, window by window, so that a caller can show how far they are.

    PPL = exp(mean_t(nll[t]))    nll[t] = -ln p(token t | the tokens before it in its window)

and a model's divergence from a base, which is a model or a file. A model's log probabilities are rounded as a
file would hold them, so both give the same figures.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError
from ck.evaluate.base_file import BaseFile, BaseWriter
from ck.evaluate.divergence import Compared, compare, joined
from ck.evaluate.estimate import Estimate, Values, exponential, mean
from ck.evaluate.log_probs import compress, log_prob_of
from ck.evaluate.windows import Logits, Windows, pieces_of, scored_logits
from ck.runtime.executable import Executable

# The rows of a window's scored tokens, in the pieces that `windows.pieces_of` names.
Base = Callable[[int], Iterator[NDArray[np.void]]]


def perplexity(nll: Values) -> Estimate:
    """Of the negative log likelihoods [n] of tokens, n above 0."""
    return exponential(mean(nll))


def perplexity_of(exe: Executable, windows: Windows, save: BaseWriter | None = None) -> Iterator[Values]:
    """Negative log likelihoods [S] of each window's scored tokens; their rows go to `save` if there is one.

    Raises MalformedError when the model's logits are no numbers.
    """
    for n in range(len(windows.ids)):
        scored, found = windows.scored(n), list[Values]()
        for rows, logits in _finite(exe, windows, n):
            found.append(-log_prob_of(logits, scored[rows]))
            if save is not None:
                save.add(compress(logits))
        yield np.concatenate(found)


def divergence_of(exe: Executable, windows: Windows, base: Base) -> Iterator[Compared]:
    """What was found of each window. Raises MalformedError as `perplexity_of` does, and what `base` does."""
    for n in range(len(windows.ids)):
        scored, pieces = windows.scored(n), _finite(exe, windows, n)
        yield joined(
            compare(logits, theirs, scored[rows])
            for (rows, logits), theirs in zip(pieces, base(n), strict=True)
        )


def model_as_base(exe: Executable, windows: Windows, save: BaseWriter | None = None) -> Base:
    """A model; its rows go to `save` too if there is one."""

    def rows(n: int) -> Iterator[NDArray[np.void]]:
        for _, logits in _finite(exe, windows, n):
            made = compress(logits)
            if save is not None:
                save.add(made)
            yield made

    return rows


def file_as_base(file: BaseFile) -> Base:
    """A file that was written before."""

    def rows(n: int) -> Iterator[NDArray[np.void]]:
        for piece in pieces_of(file.ids.shape[1], file.n_vocab):
            yield file.rows(n, piece)

    return rows


def _finite(exe: Executable, windows: Windows, n: int) -> Iterator[tuple[slice, Logits]]:
    for rows, logits in scored_logits(exe, windows, n):
        if not np.isfinite(logits).all():
            raise MalformedError(f"the model's logits must be numbers, those of window {n + 1} are not all")
        yield rows, logits
