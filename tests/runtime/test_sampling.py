"""The sampler chain: each sampler alone, the chain against a plain definition of it, limits, and the draw."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ck.errors import CkError, UsageError
from ck.runtime.sampling import Sampler, SamplingParams, greedy, keep_top_k

Logits = NDArray[np.float32]
OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temp": 1.0, "seed": 1}


def logits_of(*probabilities: float) -> Logits:
    return np.log(np.array(probabilities)).astype(np.float32)


def kept(logits: Logits, **settings: Any) -> list[int]:
    return Sampler(SamplingParams(**{**OFF, **settings})).distribution(logits)[0].tolist()


def random_logits(seed: int, n_vocab: int) -> Logits:
    return np.random.default_rng(seed).normal(scale=3, size=n_vocab).astype(np.float32)


def test_defaults_are_llama_cpps() -> None:
    params = SamplingParams()
    assert (params.temp, params.top_k, params.typ_p, params.top_p, params.min_p) == (0.8, 40, 1.0, 0.95, 0.05)
    assert (params.repeat_penalty, params.repeat_last_n) == (1.0, 64)
    assert (params.presence_penalty, params.frequency_penalty, params.seed) == (0.0, 0.0, -1)
    assert not params.penalizes


FIVE = logits_of(0.1, 0.4, 0.05, 0.3, 0.15)
KEEPS: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 3, 4, 0, 2]),
    ({"top_k": 1}, [1]),
    ({"top_k": 2}, [1, 3]),
    ({"top_k": 99}, [1, 3, 4, 0, 2]),
    ({"top_k": -1}, [1, 3, 4, 0, 2]),
    ({"top_p": 0.0}, [1]),
    ({"top_p": 0.39}, [1]),
    ({"top_p": 0.41}, [1, 3]),
    ({"top_p": 0.69}, [1, 3]),
    ({"top_p": 0.71}, [1, 3, 4]),
    ({"min_p": 1.0}, [1]),
    ({"min_p": 0.74}, [1, 3]),
    ({"min_p": 0.76}, [1]),
    ({"min_p": 0.24}, [1, 3, 4, 0]),
    # entropy is 1.39 nats; surprise: 0.92 1.20 1.90 2.30 3.00, so token 3 is the most typical, then 1, 4
    ({"typ_p": 0.29}, [3]),
    ({"typ_p": 0.31}, [1, 3]),
    ({"typ_p": 0.71}, [1, 3, 4]),
    # top_p looks at what top_k left: 0.4/0.7 is above 0.5
    ({"top_k": 2, "top_p": 0.5}, [1]),
    ({"top_k": 3, "top_p": 0.9, "min_p": 0.5}, [1, 3]),
]


@pytest.mark.parametrize(("settings", "ids"), KEEPS, ids=lambda value: str(value))
def test_each_sampler_keeps(settings: dict[str, Any], ids: list[int]) -> None:
    assert kept(FIVE, **settings) == ids


def test_temperature_comes_last_and_does_not_change_who_is_kept() -> None:
    for temp in (0.01, 0.8, 5.0):
        assert kept(FIVE, top_p=0.71, temp=temp) == [1, 3, 4]
    _, hot = Sampler(SamplingParams(**{**OFF, "temp": 2.0})).distribution(FIVE)
    expected = np.sqrt(np.sort([0.1, 0.4, 0.05, 0.3, 0.15])[::-1])
    np.testing.assert_allclose(hot, expected / expected.sum(), rtol=1e-6)


def plain_chain(logits: Logits, params: SamplingParams) -> dict[int, float]:
    """The chain as its definition reads, over Python numbers."""
    pairs = sorted(((float(value), token) for token, value in enumerate(logits)), key=lambda p: (-p[0], p[1]))
    pairs = pairs[: params.top_k] if params.top_k > 0 else pairs
    total = sum(math.exp(value - pairs[0][0]) for value, _ in pairs)
    mass, count = 0.0, 0
    for value, _ in pairs:
        mass, count = mass + math.exp(value - pairs[0][0]) / total, count + 1
        if mass >= params.top_p:
            break
    pairs = [p for p in pairs[:count] if p[0] >= pairs[0][0] + math.log(params.min_p)]
    weights = {token: math.exp((value - pairs[0][0]) / params.temp) for value, token in pairs}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


@pytest.mark.parametrize("n_vocab", [1, 2, 39, 40, 41, 255, 257, 1000, 49152])
@pytest.mark.parametrize("top_k", [1, 40, 300])
def test_the_default_chain_is_its_definition(n_vocab: int, top_k: int) -> None:
    logits = random_logits(n_vocab, n_vocab)
    params = SamplingParams(seed=0, top_k=top_k)
    ids, probabilities = Sampler(params).distribution(logits)
    expected = plain_chain(logits, params)
    assert ids.tolist() == list(expected)
    np.testing.assert_allclose(probabilities, list(expected.values()), rtol=1e-12)


@pytest.mark.parametrize("n_vocab", [300, 1024, 5000])
def test_top_k_orders_ties_by_token(n_vocab: int) -> None:
    logits = np.random.default_rng(0).integers(0, 3, n_vocab).astype(np.float32)
    ids, _ = keep_top_k(logits, 50)
    assert ids.tolist() == sorted(range(n_vocab), key=lambda token: (-logits[token], token))[:50]


def test_ties_at_the_top_go_to_the_lowest_token() -> None:
    logits = np.array([1, 7, 7, 0, 7], np.float32)
    assert greedy(logits) == 1
    assert Sampler(SamplingParams(temp=0)).choose(logits) == 1
    assert kept(logits, top_k=2) == [1, 2]


@pytest.mark.parametrize("settings", [{"temp": 0}, {}, {"top_k": 0}, {"top_k": 1}], ids=str)
def test_minus_infinity_is_never_chosen(settings: dict[str, Any]) -> None:
    logits = np.full(3000, -np.inf, np.float32)
    logits[2500] = -1e30
    assert Sampler(SamplingParams(seed=3, **settings)).choose(logits) == 2500


@pytest.mark.parametrize("temp", [0, 0.8])
def test_nothing_but_minus_infinity_is_an_error(temp: float) -> None:
    with pytest.raises(CkError, match="logits: one must be above -inf, all are -inf"):
        Sampler(SamplingParams(temp=temp, seed=0)).choose(np.full(9, -np.inf, np.float32))


@pytest.mark.parametrize("temp", [0, 0.8])
@pytest.mark.parametrize("place", [0, 700, 999])
def test_one_nan_is_an_error_that_names_the_token(temp: float, place: int) -> None:
    logits = random_logits(0, 1000)
    logits[place] = np.nan
    with pytest.raises(CkError, match=f"token {place} has NaN"):
        Sampler(SamplingParams(temp=temp, seed=0)).choose(logits)


def test_plus_infinity_beats_the_rest_and_shares_evenly() -> None:
    logits = np.array([5, np.inf, 3e38, np.inf], np.float32)
    ids, probabilities = Sampler(SamplingParams(seed=0)).distribution(logits)
    assert (ids.tolist(), probabilities.tolist()) == ([1, 3], [0.5, 0.5])
    assert Sampler(SamplingParams(temp=0)).choose(logits) == 1


def test_tiny_and_huge_temperatures() -> None:
    assert Sampler(SamplingParams(temp=1e-30, seed=0)).choose(FIVE) == 1
    _, flat = Sampler(SamplingParams(**{**OFF, "temp": 1e30})).distribution(FIVE)
    np.testing.assert_allclose(flat, 0.2)


def penalized(tokens: list[int], **settings: Any) -> list[float]:
    sampler = Sampler(SamplingParams(**{**OFF, **settings}))
    sampler.see(tokens)
    ids, probabilities = sampler.distribution(np.array([2, -2, 1, 0], np.float32))
    logits = np.empty(4)
    logits[ids] = np.log(probabilities)
    # Token 3 is never seen here, so it anchors the scale.
    return np.round(logits - logits[3], 5).tolist()


def test_penalties_by_hand() -> None:
    assert penalized([0, 1, 0], repeat_penalty=2.0) == [1, -4, 1, 0]
    assert penalized([0, 1, 0], presence_penalty=0.5) == [1.5, -2.5, 1, 0]
    assert penalized([0, 1, 0], frequency_penalty=0.5) == [1, -2.5, 1, 0]
    assert penalized([0, 1, 0], repeat_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25) == [
        -0.25, -4.75, 1, 0
    ]  # fmt: skip


def test_penalties_look_at_the_last_n() -> None:
    assert penalized([0, 1, 2], repeat_penalty=2.0, repeat_last_n=2) == [2, -4, 0.5, 0]
    assert penalized([0, 1, 2], repeat_penalty=2.0, repeat_last_n=0) == [2, -2, 1, 0]
    assert penalized([0] + [2] * 200, repeat_penalty=2.0, repeat_last_n=-1) == [1, -2, 0.5, 0]


def test_penalties_move_argmax_and_leave_the_logits_alone() -> None:
    logits = np.array([2.0, 1.5], np.float32)
    sampler = Sampler(SamplingParams(temp=0, repeat_penalty=2.0))
    assert sampler.choose(logits) == 0
    sampler.see([0])
    assert sampler.choose(logits) == 1
    sampler.forget()
    assert sampler.choose(logits) == 0
    assert logits.tolist() == [2.0, 1.5]


def draws(seed: int, n_draws: int, **settings: Any) -> list[int]:
    sampler = Sampler(SamplingParams(seed=seed, **settings))
    return [sampler.choose(FIVE) for _ in range(n_draws)]


def test_a_seed_fixes_the_tokens() -> None:
    assert draws(7, 50) == draws(7, 50)
    assert draws(7, 50) != draws(8, 50)
    # Recorded from numpy 2.4.6: a change of generator or of the draw shows here.
    assert draws(42, 12, top_k=0, top_p=1.0, min_p=0.0, temp=1.0) == RECORDED


RECORDED = [4, 3, 0, 3, 1, 2, 4, 4, 1, 3, 1, 0]


def test_a_random_seed_is_known_and_replays() -> None:
    first = Sampler(SamplingParams())
    assert 0 <= first.seed < 2**32
    again = Sampler(SamplingParams(seed=first.seed))
    assert [first.choose(FIVE) for _ in range(20)] == [again.choose(FIVE) for _ in range(20)]
    assert len({Sampler(SamplingParams()).seed for _ in range(5)}) > 1


def test_every_choice_uses_one_draw() -> None:
    # One candidate or many: the stream after n tokens is the same.
    mixed, plain = (Sampler(SamplingParams(seed=5, **OFF_BUT_SEED)) for _ in range(2))
    mixed.choose(np.array([50, 0], np.float32))
    plain.choose(FIVE)
    assert [mixed.choose(FIVE) for _ in range(20)] == [plain.choose(FIVE) for _ in range(20)]


OFF_BUT_SEED: dict[str, Any] = {name: value for name, value in OFF.items() if name != "seed"}

# Upper 1e-4 points of the chi-square distribution, by degrees of freedom (tables; scipy.stats.chi2.isf).
CHI_SQUARE = {2: 18.42, 4: 23.51, 9: 33.72, 39: 82.06}


@pytest.mark.parametrize(
    ("settings", "n_vocab"),
    [({}, 5), ({"temp": 0.5}, 5), ({"temp": 1.7}, 10), ({"top_k": 3}, 60), ({"top_k": 40, "temp": 4.0}, 900)],
    ids=str,
)
def test_draws_follow_the_distribution(settings: dict[str, Any], n_vocab: int) -> None:
    n_draws = 20_000
    logits = random_logits(11, n_vocab) / 3
    sampler = Sampler(SamplingParams(**{**OFF, "seed": 123, **settings}))
    ids, probabilities = sampler.distribution(logits)
    expected = probabilities * n_draws
    assert expected.min() > 5
    counts = np.bincount([sampler.choose(logits) for _ in range(n_draws)], minlength=n_vocab)[ids]
    assert counts.sum() == n_draws
    assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE[len(ids) - 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_p": 1.5}, "top_p: must be from 0 to 1, got 1.5"),
        ({"min_p": -0.1}, "min_p: must be from 0 to 1, got -0.1"),
        ({"typ_p": math.nan}, "typ_p: must be from 0 to 1, got nan"),
        ({"temp": math.nan}, "temp: must be a finite number, got nan"),
        ({"temp": math.inf}, "temp: must be a finite number, got inf"),
        ({"repeat_penalty": 0.0}, "repeat_penalty: must be above 0 and finite, got 0.0"),
        ({"repeat_last_n": -2}, "repeat_last_n: must be -1 or more, got -2"),
        ({"seed": -2}, "seed: must be -1 or from 0"),
        ({"seed": 2**64}, "seed: must be -1 or from 0"),
    ],
    ids=str,
)
def test_refusals(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        SamplingParams(**settings)
    assert words in str(caught.value)
