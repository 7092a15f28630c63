"""How near the values after a pass have to be to those before it, and where they differ most.

`BITS` is what a pass promises that only moves things: equal bits, NaN equal to NaN whatever its payload. A
pass that rounds elsewhere or adds in another order states a bound on the normalised mean squared error, taken
row by row so that one wrong row is not lost among many right ones:

    error = max_t  sum_d (b[t, d] - a[t, d])^2 / max(sum_d a[t, d]^2, mean over rows of sum_d a[t, d]^2)

over the rows whose bits are not equal; and what is not finite stays where it is, with its sign.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ck.ir.op import Array

# Half of the last bit of f32, and of rows of 15 and of 8 bits.
F32_STEP, FINE_STEP, COARSE_STEP = 2.0**-24, 2.0**-15, 2.0**-8


@dataclass(frozen=True)
class Tier:
    """What a pass promises.

    bound      largest error; 0 means equal bits
    why        what the pass does to the numbers, in a few words
    quantized  the bound where rows are quantised or keys and values f16, if it is another: a last bit can
               change which of their numbers is nearest
    rounded    the bound where factors of products are rounded to bf16, if it is another: likewise, and one of
               them is then another by 2^-8 of itself, in sums that cancel
    coarse     the bound where rows are quantised to 8 bits, if it is another: likewise, and the numbers lie
               128 times as far apart
    step       by what part of itself a number is rounded, where bits are not promised: f32's, of 15 or 8 bits
    specials   whether it keeps what is not finite; where it does not, rows that hold such a number are not
               compared in the case that puts some in
    """

    bound: float
    why: str
    quantized: float | None = None
    rounded: float | None = None
    coarse: float | None = None
    step: float = F32_STEP
    specials: bool = True

    @property
    def bits(self) -> bool:
        """Whether equal bits are promised."""
        return self.bound == 0

    def where(self, *, quantized: bool = False, rounded: bool = False, coarse: bool = False) -> "Tier":
        """The same promise where rows are quantised or keys f16, factors rounded, or rows of 8 bits."""
        named = ((self.quantized, quantized), (self.rounded, rounded), (self.coarse, coarse))
        others = [bound for bound, holds in named if holds and bound is not None]
        step = self.step
        if quantized and self.quantized is not None:
            step = max(step, FINE_STEP)
        if coarse and self.coarse is not None:
            step = max(step, COARSE_STEP)
        return replace(self, bound=max((self.bound, *others)), step=step)

    def __str__(self) -> str:
        return "equal bits" if self.bits else f"an error of at most {self.bound:.0e}"


BITS = Tier(0.0, "the same operations on the same values")


@dataclass(frozen=True)
class Difference:
    """How far two arrays are apart: the error, and the element that differs most.

    text   what is another thing where no two elements can be told
    """

    error: float
    agrees: bool
    index: tuple[int, ...] = ()
    before: float = 0.0
    after: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        if self.text:
            return self.text
        where = f"[{', '.join(map(str, self.index))}] " if self.index else ""
        return f"{where}was {self.before:.9g} and is {self.after:.9g}"


def compare(before: Array, after: Array, tier: Tier, special: bool = False) -> Difference:
    """Hold `after` against `before`; `special` says that the inputs held numbers that are not finite."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return Difference(np.inf, False, text=f"was {_form(before)} and is {_form(after)}")
    if before.dtype.kind != "f":
        wrong = np.argwhere(before != after)
        if not len(wrong):
            return Difference(0.0, True)
        index = tuple(int(place) for place in wrong[0])
        return Difference(np.inf, False, index, float(before[index]), float(after[index]))
    # Most rows are equal, of a cache almost all: the others alone are looked at more closely.
    changed = np.flatnonzero(~rows_of(_bits(before) == _bits(after)).all(-1))
    a, b = rows_of(before)[changed], rows_of(after)[changed]
    if special and not tier.specials:
        finite = np.isfinite(a).all(-1) & np.isfinite(b).all(-1)
        changed, a, b = changed[finite], a[finite], b[finite]
    # No bound tells 0 from -0.
    same = (_bits(a) == _bits(b)) | (np.isnan(a) & np.isnan(b)) | (not tier.bits and a == b)
    if same.all():
        return Difference(0.0, True)
    error = _error(a, b)
    if not tier.bits and error <= tier.bound:
        return Difference(error, True)
    row, column = np.argwhere(~same if tier.bits else _worst(a, b))[0]
    place = np.unravel_index(int(changed[row]), before.shape[:-1]) if before.ndim > 1 else ()
    index = (*map(int, place), int(column))
    return Difference(error, False, index, float(a[row, column]), float(b[row, column]))


def _form(a: Array) -> str:
    """Sizes and type of an array as messages name them, `7x16 float32`."""
    return f"{'x'.join(map(str, a.shape)) or 'one'} {a.dtype}"


def _bits(a: Array) -> Array:
    return np.ascontiguousarray(a).view(f"u{a.dtype.itemsize}")


def rows_of(a: Array) -> Array:
    """Rows of numbers: a vector is one row, heads of a cache have their rows below each other."""
    return a.reshape(1, -1) if a.ndim < 2 else a.reshape(-1, a.shape[-1])


def _error(before: Array, after: Array) -> float:
    """The error, as the module's docstring has it; infinity where what is not finite differs."""
    squares, sizes = squared_rows(before, after)
    if not squares.any():
        return 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(squares > 0, squares / np.maximum(sizes, sizes.mean()), 0)
    return float(errors.max())


def squared_rows(before: Array, after: Array) -> tuple[Array, Array]:
    """Of each row, the squared distance, infinity where what is not finite differs, and the squared size."""
    before, after = rows_of(before), rows_of(after)
    finite = np.isfinite(before) & np.isfinite(after)
    a = np.where(finite, before, 0).astype(np.float64)
    b = np.where(finite, after, 0).astype(np.float64)
    same = (_kinds(before) == _kinds(after)).all(-1)
    return np.where(same, ((b - a) ** 2).sum(-1), np.inf), (a**2).sum(-1)


def _kinds(a: Array) -> Array:
    """0 for a finite number, else which kind it is of."""
    return np.where(np.isnan(a), 2, np.where(np.isinf(a), np.sign(np.nan_to_num(a)), 0))


def _worst(before: Array, after: Array) -> Array:
    """Where the two are furthest apart: where one alone is not finite, else the largest distance."""
    kinds = _kinds(before) != _kinds(after)
    if kinds.any():
        return kinds
    finite = np.isfinite(before)
    distance = np.abs(np.where(finite, after, 0).astype(np.float64) - np.where(finite, before, 0))
    return distance == distance.max()


def worst(found: Iterable[Difference]) -> Difference:
    """The first that does not agree, else the one of the largest error."""
    every = list(found)
    for difference in every:
        if not difference.agrees:
            return difference
    return max(every, key=lambda difference: difference.error, default=Difference(0.0, True))
