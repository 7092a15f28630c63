"""The figures of a divergence against the formulas written out in f64, token by token."""

import math
import statistics

import numpy as np
import pytest

from ck.evaluate import divergence
from ck.evaluate.estimate import exponential, mean, root_mean_square, share
from ck.evaluate.log_probs import compress, expand, log_prob_of, row_type

N, V = 300, 101


def softmax_logs(x: list[float]) -> list[float]:
    top = max(x)
    total = math.fsum(math.exp(v - top) for v in x)
    return [v - top - math.log(total) for v in x]


@pytest.fixture(scope="module")
def logits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the model and the base [N, V], and tokens [N]; some logits far below the others."""
    rng = np.random.default_rng(0)
    base = 4 * rng.standard_normal((N, V)).astype(np.float32)
    base[:, 3] -= 30
    ours = base + 0.3 * rng.standard_normal((N, V)).astype(np.float32)
    return ours, base, rng.integers(0, V, N).astype(np.int32)


def test_every_figure_is_its_formula(logits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ours, base, tokens = logits
    rows = compress(base)
    found = divergence.as_json(divergence.statistics(divergence.compare(ours, rows, tokens)))
    # By the rounded base, which is what the figures are of.
    p = [softmax_logs(row) for row in ours.astype(float).tolist()]
    q = [[float(row["scale"]) * int(step) + float(row["floor"]) for step in row["q"]] for row in rows]
    at = tokens.tolist()
    nll = [-row[t] for row, t in zip(p, at, strict=True)]
    nll_base = [-row[t] for row, t in zip(q, at, strict=True)]
    kld = [
        math.fsum(math.exp(b) * (b - a) for a, b in zip(*pair, strict=True) if b > -16)
        for pair in zip(p, q, strict=True)
    ]
    delta = [math.exp(-a) - math.exp(-b) for a, b in zip(nll, nll_base, strict=True)]
    same = [a.index(max(a)) == b.index(max(b)) for a, b in zip(p, q, strict=True)]

    def sem(values: list[float]) -> float:
        return statistics.pstdev(values) / math.sqrt(N - 1)

    a, b = statistics.fmean(nll), statistics.fmean(nll_base)
    apart = [x - y for x, y in zip(nll, nll_base, strict=True)]
    difference = math.sqrt(
        statistics.pvariance([math.exp(a) * x - math.exp(b) * y for x, y in zip(nll, nll_base, strict=True)])
        / (N - 1)
    )
    squares = [d * d for d in delta]
    rms = math.sqrt(statistics.fmean(squares))
    part = sum(same) / N
    expected = {
        "ppl": (math.exp(a), math.exp(a) * sem(nll)),
        "ppl_base": (math.exp(b), math.exp(b) * sem(nll_base)),
        "ln_ppl_ratio": (a - b, sem(apart)),
        "ppl_ratio": (math.exp(a - b), math.exp(a - b) * sem(apart)),
        "ppl_difference": (math.exp(a) - math.exp(b), difference),
        "kld_mean": (statistics.fmean(kld), sem(kld)),
        "delta_p_mean": (statistics.fmean(delta), sem(delta)),
        "delta_p_rms": (rms, sem(squares) / (2 * rms)),
        "same_top_p": (part, math.sqrt(part * (1 - part) / (N - 1))),
    }
    for key, (value, uncertainty) in expected.items():
        assert found[key]["value"] == pytest.approx(value, rel=2e-5, abs=1e-7), key
        assert found[key]["uncertainty"] == pytest.approx(uncertainty, rel=2e-5), key
    assert found["ln_ppl_correlation"] == pytest.approx(statistics.correlation(nll, nll_base), rel=1e-6)
    # Single values are differences of f32 numbers.
    near = {"rel": 1e-4, "abs": 3e-6}
    for key, values in {"kld": kld, "delta_p": delta}.items():
        values = sorted(values)
        assert found[f"{key}_maximum"] == pytest.approx(values[-1], **near)
        assert found[f"{key}_minimum"] == pytest.approx(values[0], **near)
        assert found[f"{key}_median"] == pytest.approx(statistics.median(values), **near)
        # The 90th percentile lies 0.1 of the way from value 269 to 270 of 0..299.
        wanted = 0.9 * values[269] + 0.1 * values[270]
        assert found[f"{key}_p90"] == pytest.approx(wanted, **near)
    assert 0 < part < 1


def test_a_row_holds_log_probabilities_to_half_a_step(
    logits: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    _, base, tokens = logits
    exact = np.array([softmax_logs(row) for row in base.astype(float).tolist()])
    rows = compress(base)
    top = exact.max(-1, keepdims=True)
    # What lies more than 16 below the likeliest is kept as 16 below.
    kept = np.maximum(exact, top - 16)
    assert (kept > exact).any()
    steps = np.abs(expand(rows) - kept) / rows["scale"][:, None]
    assert steps.max() < 0.51
    assert rows["scale"].max() <= np.float32(16) / np.float32(65535)
    np.testing.assert_allclose(log_prob_of(base, tokens), exact[np.arange(N), tokens], rtol=1e-6)


def test_rows_lie_as_the_format_says() -> None:
    assert [row_type(v).itemsize for v in (1, 2, 3, 272)] == [12, 12, 16, 552]
    row = compress(np.array([[2, 2 - 16, 1, -np.float32(40)]], np.float32)[:, :3])
    raw = row.tobytes()
    assert len(raw) == 16
    assert np.frombuffer(raw[:8], "<f4").tolist() == [row["scale"][0], row["floor"][0]]
    # Ties go to the even number, the odd vocabulary is padded with zeros.
    assert np.frombuffer(raw[8:], "<u2").tolist() == [65535, 0, round((1 + 14) / 16 * 65535), 0]
    flat = compress(np.zeros((1, 4), np.float32))[0]
    assert (flat["scale"], flat["q"].tolist()) == (0, [0, 0, 0, 0])
    assert expand(compress(np.zeros((1, 4), np.float32))) == pytest.approx(math.log(1 / 4))


def test_few_values() -> None:
    one = np.array([2.5])
    assert mean(one) == (2.5, 0)
    assert share(1, 1) == (1, 0)
    assert exponential(mean(np.array([1e4, 1e4]))).value == math.inf
    assert math.isnan(root_mean_square(np.zeros(3)).uncertainty)
    same = compress(np.ones((2, 4), np.float32))
    alike = divergence.compare(np.ones((2, 4), np.float32), same, np.zeros(2, np.int32))
    figures = divergence.as_json(divergence.statistics(alike))
    # Nothing varies: no correlation, and no uncertainty of a root of 0.
    assert figures["ln_ppl_correlation"] is None
    assert figures["same_top_p"] == {"value": 1, "uncertainty": 0}
