"""How much the columns of a model's matrices weigh: the squares of what enters them, summed over a text.

    sums[k] = sum_t x[t, k]^2      t over all tokens of all windows, x what enters the matrix

Windows are those of `windows`, whole, as llama-imatrix has them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ck.errors import MalformedError
from ck.evaluate.windows import Windows
from ck.runtime.activations import Activations


@dataclass(frozen=True)
class Sums:
    """`squares` [K] by matrix, over `n_tokens` tokens in `n_chunks` windows of `n_ctx`."""

    squares: dict[str, NDArray[np.float64]]
    n_chunks: int
    n_ctx: int

    @property
    def n_tokens(self) -> int:
        """Tokens that were read."""
        return self.n_chunks * self.n_ctx


def sums_of(program: Activations, windows: Windows, progress: Callable[[int, int], None]) -> Sums:
    """Read every window; `progress` is told how many were read and how many there are.

    Raises MalformedError when what enters a matrix is no number.
    """
    n_chunks, n_ctx = windows.ids.shape
    found: dict[str, NDArray[np.float64]] = {}
    for n in range(n_chunks):
        progress(n, n_chunks)
        for rows in program.read(windows.whole(n)):
            for name, x in rows.items():
                squares = np.einsum("tk,tk->k", x, x, dtype=np.float64)
                found[name] = found[name] + squares if name in found else squares
    for name, squares in found.items():
        if not np.isfinite(squares).all():
            raise MalformedError(
                f"{program.entering[name][0]}: finite numbers must enter it, found others; "
                "the model or its text is broken"
            )
    squares = {matrix: found[name] for name, matrices in program.entering.items() for matrix in matrices}
    return Sums(squares, n_chunks, n_ctx)
