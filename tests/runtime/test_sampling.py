"""The sampler chain: each sampler alone, the chain against a plain definition of it, limits, and the draw."""

import math
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ck.errors import CkError, UsageError
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler

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
    assert kept(logits, top_k=50) == sorted(range(n_vocab), key=lambda token: (-logits[token], token))[:50]


def test_ties_at_the_top_go_to_the_lowest_token() -> None:
    logits = np.array([1, 7, 7, 0, 7], np.float32)
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


def exact(logits: Logits) -> Any:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def cut(probabilities: Any, places: list[int]) -> Any:
    left = np.zeros_like(probabilities)
    left[places] = probabilities[places]
    return left / left.sum()


class Bytes:
    """Tokens of one letter, "a" being 0."""

    eog_ids = frozenset({3})

    def piece(self, token: int) -> bytes:
        return b"%c" % (97 + token)


# Twelve tokens: probabilities 0.3, 0.2, 0.14, .. of tokens 0, 1, 2, ..
TWELVE = np.array([0.3, 0.2, 0.14, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.015, 0.01, 0.005])
LOGITS = np.log(TWELVE).astype(np.float32)
# abcab: after "ab" comes c, after "b" too; a was followed by b, but "a" is no end of the text.
TEXT = [0, 1, 2, 0, 1]


def weighed(factors: dict[int, float], powers: dict[int, float] | None = None) -> Any:
    """TWELVE with some tokens' probabilities to powers and times factors."""
    wanted = TWELVE.copy()
    for token, power in (powers or {}).items():
        wanted[token] = wanted[token] ** power
    for token, factor in factors.items():
        wanted[token] *= factor
    return wanted / wanted.sum()


def entropy(p: Any) -> float:
    return float(-(p * np.log(p)).sum())


def powered(p: Any, temp: float) -> Any:
    return p ** (1 / temp) / (p ** (1 / temp)).sum()


def zipf_rank(p: Any, mu: float) -> int:
    """mirostat's k, by its formula."""
    places = np.arange(1, len(p))
    steps = np.log((places + 1) / places)
    z = float((steps * np.log(p[:-1] / p[1:])).sum() / (steps**2).sum())
    return int(((z - 1) * 2**mu / (1 - len(p) ** (1 - z))) ** (1 / z))


EVENNESS = entropy(TWELVE) / math.log(12)
RANKED = list(range(zipf_rank(TWELVE, 3.0)))
NEAR = [n for n in range(12) if math.log(0.3 / TWELVE[n]) <= 1.5 * float(np.log(TWELVE).std())]
# What is drawn, by a formula of its own: settings, tokens before, exact probabilities of the twelve.
EXACT: list[tuple[dict[str, Any], list[int], Any]] = [
    ({}, [], TWELVE),
    ({"temp": 0.9}, [], powered(TWELVE, 0.9)),
    ({"temp": 3.0}, [], powered(TWELVE, 3.0)),
    ({"dynatemp_range": 0.6}, [], powered(TWELVE, 0.4 + 1.2 * EVENNESS)),
    ({"dynatemp_range": 2.0, "dynatemp_exp": 3.0}, [], powered(TWELVE, 3 * EVENNESS**3)),
    ({"top_k": 4}, [], cut(TWELVE, [0, 1, 2, 3])),
    ({"top_p": 0.7}, [], cut(TWELVE, [0, 1, 2, 3])),
    ({"min_p": 0.25}, [], cut(TWELVE, [0, 1, 2, 3, 4])),
    ({"min_p": 0.25, "min_keep": 7}, [], cut(TWELVE, list(range(7)))),
    # Entropy 2.04; surprises 1.20 1.61 1.97 2.30 2.53 ..: nearest are 2, 3, 1, 4 (0.49), 0 (0.84).
    ({"typ_p": 0.5}, [], cut(TWELVE, [1, 2, 3, 4])),
    ({"top_n_sigma": 1.5}, [], cut(TWELVE, NEAR)),
    ({"xtc_probability": 1.0}, [], cut(TWELVE, list(range(2, 12)))),
    ({"xtc_probability": 0.4, "xtc_threshold": 0.09}, [], 0.6 * TWELVE + 0.4 * cut(TWELVE, [*range(3, 12)])),
    ({"repeat_penalty": 1.5}, TEXT, weighed({}, {0: 1.5, 1: 1.5, 2: 1.5})),
    ({"frequency_penalty": 0.5}, TEXT, weighed({0: math.exp(-1), 1: math.exp(-1), 2: math.exp(-0.5)})),
    ({"presence_penalty": 0.5}, TEXT, weighed(dict.fromkeys((0, 1, 2), math.exp(-0.5)))),
    ({"dry_multiplier": 1.0}, TEXT, weighed({2: math.exp(-1)})),
    ({"dry_multiplier": 1.0, "dry_allowed_length": 1}, TEXT, weighed({2: math.exp(-1.75)})),
    ({"logit_bias": {5: 1.0, 0: -math.inf}}, [], weighed({5: math.e, 0: 0.0})),
    ({"ignore_eos": True}, [], weighed({3: 0.0})),
    # mu begins at 2 tau: version 2 keeps p of 2^-3 and more.
    ({"mirostat": 2, "mirostat_tau": 1.5, "mirostat_eta": 0.0}, [], cut(TWELVE, [0, 1, 2])),
    ({"mirostat": 1, "mirostat_tau": 1.5, "mirostat_eta": 0.0}, [], cut(TWELVE, RANKED)),
    ({"top_k": 6, "temp": 2.0, "min_p": 0.3}, [], powered(cut(TWELVE, [0, 1, 2, 3])[:4], 2.0)),
]  # fmt: skip
# Upper 1e-4 points of the chi-square distribution by degrees of freedom, from a table.
POINTS = [15.14, 18.42, 21.11, 23.51, 25.74, 27.86, 29.88, 31.83, 33.72, 35.56, 37.37]


@pytest.mark.parametrize(("settings", "before", "wanted"), EXACT, ids=lambda value: str(value)[:60])
def test_draws_follow_the_exact_distribution(
    settings: dict[str, Any], before: list[int], wanted: Any
) -> None:
    n_draws = 2000
    wanted = np.concatenate([wanted, np.zeros(12 - len(wanted))])
    given: dict[str, Any] = {**OFF, "dry_sequence_breakers": (), **settings, "seed": 20261126}
    sampler = Sampler(SamplingParams(**given), cast("Tokenizer", Bytes()))
    sampler.see(before)
    counts = np.bincount([sampler.choose(LOGITS) for _ in range(n_draws)], minlength=12)
    assert counts[wanted == 0].sum() == 0
    likely = wanted > 0
    expected = wanted[likely] * n_draws
    assert expected.min() > 4
    chi_square = ((counts[likely] - expected) ** 2 / expected).sum()
    assert chi_square < POINTS[int(likely.sum()) - 2], (counts.tolist(), (wanted * n_draws).round(1).tolist())
