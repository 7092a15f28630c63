"""How far a model is from its base on a text: llama-perplexity's statistics, under its names.

Of each scored token, p the model's probabilities and b the base's, which 16 bits hold (log_probs.py):

    KLD    sum_v b[v] * (ln b[v] - ln p[v])     over tokens v with ln b[v] > -16
    Δp     p[token] - b[token]
    same   whether both find one token the likeliest, the first of equals

An uncertainty is that of a mean over tokens (estimate.py), carried through to first order; that of two means
together uses their covariance. A percentile lies between the two nearest values, in proportion.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.evaluate.estimate import (
    Estimate,
    Values,
    covariance,
    exponential,
    finite,
    mean,
    root_mean_square,
    share,
)
from ck.evaluate.log_probs import expand, log_sum_exp

# Less likely tokens of the base count nothing.
FLOOR = np.float32(-16)
KLD_PERCENTILES = (100.0, 99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1, 0.0)
DELTA_PERCENTILES = (100.0, 99.9, 99.0, 95.0, 90.0, 75.0, 50.0, 25.0, 10.0, 5.0, 1.0, 0.1, 0.0)
NAMES = {100.0: "Maximum", 50.0: "Median", 0.0: "Minimum"}


@dataclass(frozen=True)
class Compared:
    """What was found of tokens [n]: negative log likelihoods by both models, KLD, Δp, the same likeliest."""

    nll: Values
    nll_base: Values
    kld: Values
    delta_p: Values
    same_top: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.nll)


@dataclass(frozen=True)
class Figure:
    """A line of the report: `key` names it for programs; `uncertainty` is None where there is none.

    `percent` figures are parts of 1, shown in hundredths.
    """

    key: str
    label: str
    value: float
    uncertainty: float | None = None
    percent: bool = False


def compare(logits: NDArray[np.float32], rows: NDArray[np.void], tokens: NDArray[np.int32]) -> Compared:
    """Logits [T, V] of the model against rows [T] of the base (`log_probs.row_type`), at `tokens` [T]."""
    base = expand(rows)
    log_sum = log_sum_exp(logits)
    at = tokens[:, None].astype(np.int64)
    nll = log_sum - np.take_along_axis(logits, at, -1)[:, 0]
    nll_base = -np.take_along_axis(base, at, -1)[:, 0].astype(np.float64)
    apart = base - (logits - log_sum[:, None].astype(np.float32))
    weights = np.where(base > FLOOR, np.exp(base), np.float32(0))
    return Compared(
        nll=nll,
        nll_base=nll_base,
        kld=(weights * apart).sum(-1, dtype=np.float64),
        delta_p=np.exp(-nll) - np.exp(-nll_base),
        same_top=logits.argmax(-1) == base.argmax(-1),
    )


def joined(parts: Iterable[Compared]) -> Compared:
    """All tokens of `parts`, one at least, in order."""
    columns = zip(*((p.nll, p.nll_base, p.kld, p.delta_p, p.same_top) for p in parts), strict=True)
    return Compared(*(np.concatenate(column) for column in columns))


def log_ratio(of: Compared) -> Estimate:
    """ln(PPL / PPL of the base)."""
    ours, base = mean(of.nll), mean(of.nll_base)
    apart = ours.uncertainty**2 + base.uncertainty**2 - 2 * covariance(of.nll, of.nll_base)
    return Estimate(ours.value - base.value, math.sqrt(max(apart, 0.0)))


def same_top(of: Compared) -> Estimate:
    """The part of tokens where both find the same one the likeliest."""
    return share(int(of.same_top.sum()), len(of))


def statistics(of: Compared) -> dict[str, list[Figure]]:
    """The report: lists of figures under their headings."""
    return {
        "Perplexity statistics": _perplexities(of),
        "KL divergence statistics": [
            _figure("kld_mean", "Mean    KLD", mean(of.kld)),
            *_percentiles("kld", "KLD", of.kld, KLD_PERCENTILES, False),
        ],
        "Token probability statistics": [
            _figure("delta_p_mean", "Mean    Δp", mean(of.delta_p), True),
            *_percentiles("delta_p", "Δp", of.delta_p, DELTA_PERCENTILES, True),
            _figure("delta_p_rms", "RMS Δp", root_mean_square(of.delta_p), True),
            _figure("same_top_p", "Same top p", same_top(of), True),
        ],
    }


def as_json(found: Mapping[str, list[Figure]]) -> dict[str, Any]:
    """Every figure by its key; what is no number becomes null."""
    return {
        figure.key: finite(figure.value)
        if figure.uncertainty is None
        else {"value": finite(figure.value), "uncertainty": finite(figure.uncertainty)}
        for figures in found.values()
        for figure in figures
    }


def text(found: Mapping[str, list[Figure]]) -> str:
    """The report as llama-perplexity lays it out."""
    blocks: list[str] = []
    for heading, figures in found.items():
        width = max(len(figure.label) for figure in figures)
        lines = [f"{figure.label:<{width}}: {_shown(figure)}" for figure in figures]
        blocks.append("\n".join([f"====== {heading} ======", *lines]))
    return "\n\n".join(blocks)


def _perplexities(of: Compared) -> list[Figure]:
    ours, base, ratio = mean(of.nll), mean(of.nll_base), log_ratio(of)
    together = covariance(of.nll, of.nll_base)
    both = ours.uncertainty * base.uncertainty
    a, b = exponential(ours), exponential(base)
    apart = a.uncertainty**2 + b.uncertainty**2 - 2 * a.value * b.value * together
    difference = Estimate(a.value - b.value, math.sqrt(max(apart, 0.0)))
    correlation = together / both if both > 0 else math.nan
    return [
        _figure("ppl", "Mean PPL(Q)", a),
        _figure("ppl_base", "Mean PPL(base)", b),
        Figure("ln_ppl_correlation", "Cor(ln(PPL(Q)), ln(PPL(base)))", correlation, percent=True),
        _figure("ln_ppl_ratio", "Mean ln(PPL(Q)/PPL(base))", ratio),
        _figure("ppl_ratio", "Mean PPL(Q)/PPL(base)", exponential(ratio)),
        _figure("ppl_difference", "Mean PPL(Q)-PPL(base)", difference),
    ]


def _percentiles(key: str, label: str, of: Values, wanted: Iterable[float], percent: bool) -> list[Figure]:
    def figure(each: float) -> Figure:
        name = NAMES.get(each, f"{each:4.1f}%")
        ending = NAMES.get(each, f"p{each:g}").lower()
        value = float(np.percentile(of, each))
        return Figure(f"{key}_{ending}", f"{name:<7} {label}", value, percent=percent)

    return [figure(each) for each in wanted]


def _figure(key: str, label: str, of: Estimate, percent: bool = False) -> Figure:
    return Figure(key, label, of.value, of.uncertainty, percent)


def _shown(figure: Figure) -> str:
    scale, form, end = (100, ">7.3f", "%") if figure.percent else (1, ">10.6f", "")
    value = f"{figure.value * scale:{form}}"
    if figure.uncertainty is None:
        return f"{value}{end}"
    return f"{value} ± {figure.uncertainty * scale:{form}} {end}".rstrip()
