"""Samplers where they have no choice, or too much, or numbers that are none: what is left, what is said."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from ck.errors import CkError, UsageError
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.samplers.candidates import Candidates
from ck.runtime.samplers.dry import prefix_lengths
from ck.runtime.samplers.params import ORDER, SamplingParams, sampler_names
from ck.runtime.sampling import Sampler

INF = math.inf
OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temp": 1.0, "seed": 1}


class Letters:
    """Token 0 is "a", 1 "b", and so on; 4 ends a reply."""

    eog_ids = frozenset({4})

    def piece(self, token: int) -> bytes:
        return b"%c" % (97 + token)


def sampler(settings: dict[str, Any], before: list[int] | None = None) -> Sampler:
    made = Sampler(SamplingParams(**{**OFF, **settings}), cast("Tokenizer", Letters()))
    made.forget()
    made.see(before or [])
    return made


def left(settings: dict[str, Any], logits: list[float], before: list[int] | None = None) -> list[int]:
    return sampler(settings, before).distribution(np.array(logits, np.float32))[0].tolist()


FALLING = [5.0, 4.0, 3.0, 2.0, 1.0]
EVEN = [1.0, 1.0, 1.0, 1.0]
# Everything at once, for logits that leave nothing to choose.
ALL = {
    "top_k": 3, "top_p": 0.5, "min_p": 0.9, "typ_p": 0.5, "top_n_sigma": 0.5, "xtc_probability": 1.0,
    "dynatemp_range": 0.5, "temp": 0.7, "repeat_penalty": 2.0, "dry_multiplier": 1.0,
}  # fmt: skip
# These part tokens that are equally likely.
DROP_TIES = ("top_p", "xtc_probability", "typ_p")
MIRO1: dict[str, Any] = {"mirostat": 1}
MIRO2: dict[str, Any] = {"mirostat": 2}
KEPT: list[tuple[dict[str, Any], list[float], list[int]]] = [
    # One token, or one that can be chosen.
    (ALL, [0.0], [0]),
    (ALL, [-1e30], [0]),
    (ALL, [INF], [0]),
    (ALL, [-INF, 2.0, -INF], [1]),
    (MIRO1, [3.0], [0]),
    (MIRO2, [3.0], [0]),
    (MIRO1, [-INF, 3.0], [1]),
    (MIRO2, [-INF, 3.0], [1]),
    # k and min_keep beyond the vocabulary.
    ({"top_k": 10**9}, FALLING, [0, 1, 2, 3, 4]),
    ({"min_p": 1.0, "min_keep": 10**9}, FALLING, [0, 1, 2, 3, 4]),
    ({"top_p": 0.0, "min_keep": 9}, FALLING, [0, 1, 2, 3, 4]),
    ({"typ_p": 0.0, "min_keep": 9}, FALLING, [0, 1, 2, 3, 4]),
    ({"top_p": 0.0, "min_keep": 2}, FALLING, [0, 1]),
    ({"min_p": 1.0, "min_keep": 2}, FALLING, [0, 1]),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.05, "min_keep": 5}, FALLING, [0, 1, 2, 3, 4]),
    # The strictest setting leaves a token, and one alone unless tokens are alike.
    ({"top_p": 0.0}, FALLING, [0]),
    ({"min_p": 1.0}, FALLING, [0]),
    ({"top_n_sigma": 1e-9}, FALLING, [0]),
    ({"typ_p": 0.0}, FALLING, [1]),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.0}, FALLING, [4]),
    # Ties: all, or the first of them.
    ({"min_p": 1.0}, EVEN, [0, 1, 2, 3]),
    ({"top_n_sigma": 1e-9}, EVEN, [0, 1, 2, 3]),
    ({"top_k": 2}, EVEN, [0, 1]),
    ({}, [-0.0, 0.0, -0.0], [0, 1, 2]),
    ({"top_p": 0.5}, EVEN, [0, 1]),
    ({"typ_p": 0.5}, EVEN, [0, 1, 2]),
    ({"temp": 0.0}, EVEN, [0]),
    ({"xtc_probability": 1.0}, EVEN, [3]),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.3}, EVEN, [0, 1, 2, 3]),
    ({"dynatemp_range": 0.9}, EVEN, [0, 1, 2, 3]),
    ({**MIRO1, "mirostat_tau": 0.0}, EVEN, [0, 1, 2, 3]),
    ({**MIRO2, "mirostat_tau": 0.9}, EVEN, [0]),
    ({**MIRO2, "mirostat_tau": 1.0}, EVEN, [0, 1, 2, 3]),
    # Infinities. What is at -inf counts among the candidates and never comes out.
    ({"top_k": 3}, [-INF, 1.0, -INF, 0.0], [1, 3]),
    ({"top_p": 0.9999}, [-INF, 1.0, -INF, 0.0], [1, 3]),
    ({"min_p": 1e-9}, [-INF, 1.0, -INF, 0.0], [1, 3]),
    ({"typ_p": 0.99}, [-INF, 1.0, -INF, 0.0], [1, 3]),
    ({"top_n_sigma": 1.0}, [-INF, 1.0, -INF, 0.0], [1]),
    ({"min_p": 0.9, "min_keep": 4}, [-INF, 1.0, 0.0], [1, 2]),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.0}, [-INF, 1.0, 0.0], [2]),
    (MIRO2, [-INF, 1.0, 0.0], [1, 2]),
    ({"dynatemp_range": 0.5}, [-INF, 1.0, 0.0], [1, 2]),
    *[({name: value}, [0.0, INF, 3e38, INF], [1, 3]) for name, value in ALL.items() if name not in DROP_TIES],
    ({"top_p": 0.5}, [0.0, INF, 3e38, INF], [1]),
    ({"xtc_probability": 1.0}, [0.0, INF, 1.0, INF], [3]),
    # Logits at the ends of f32, temperatures at the ends of f64.
    ({}, [3e38, -3e38, 3e38], [0, 2]),
    ({"top_n_sigma": 1.0}, [3e38, -3e38], [0]),
    ({"temp": 1e-320}, [1.0, 2.0], [1]),
    ({"temp": 1e-320}, [-1.0, -2.0], [0]),
    ({"temp": 1e308}, [1.0, 2.0], [1, 0]),
    ({"temp": -1.0}, [1.0, 2.0], [1]),
    # Dynamic temperature that comes down to 0: the likeliest alone.
    ({"temp": 0.0, "dynatemp_range": 1.0, "dynatemp_exp": 1e6}, FALLING, [0]),
    # XTC needs two that are likely.
    ({"xtc_probability": 1.0, "xtc_threshold": 0.5}, FALLING, [0, 1, 2, 3, 4]),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.51}, EVEN, [0, 1, 2, 3]),
    # Temperature 0 takes the likeliest of what comes to it.
    ({"temp": 0.0, "xtc_probability": 1.0, "xtc_threshold": 0.2}, FALLING, [1]),
    ({"temp": 0.0, "top_k": 1, "min_keep": 3}, FALLING, [0]),
    ({"temp": 0.0, **MIRO2}, FALLING, [0]),
    ({"temp": 0.0, "samplers": ()}, FALLING, [0, 1, 2, 3, 4]),
    ({"temp": 0.0, "samplers": "top_k;temp"}, FALLING, [0]),
    # Biases.
    ({"logit_bias": {2: INF}}, FALLING, [2]),
    ({"logit_bias": {0: -INF}, "temp": 0.0}, FALLING, [1]),
    ({"logit_bias": [(3, 2.0), (3, 2.0)], "temp": 0.0}, FALLING, [3]),
    ({"logit_bias": {0: -INF}}, [INF, 1.0], [1]),
    ({"logit_bias": {0: INF}}, [-INF, 1.0], [0]),
    ({"ignore_eos": True}, [0.0, 0.0, 0.0, 0.0, 50.0], [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("settings", "logits", "ids"), KEPT, ids=lambda value: str(value)[:50])
def test_what_is_left(settings: dict[str, Any], logits: list[float], ids: list[int]) -> None:
    with np.errstate(all="raise", under="ignore"):
        found, probabilities = sampler(settings).distribution(np.array(logits, np.float32))
    assert found.tolist() == ids
    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()


BREAKERS = {"dry_multiplier": 1.0, "dry_sequence_breakers": ("d",)}
SPANNING = {"dry_multiplier": 1.0, "dry_sequence_breakers": ("cd", "dab")}
# Tokens before, and those that DRY makes less likely, with the length of what they would go on with.
DRIES: list[tuple[dict[str, Any], str, dict[str, int]]] = [
    ({}, "", {}),
    ({}, "a", {}),
    ({}, "ab", {}),
    ({}, "aba", {}),
    ({}, "abcab", {"c": 2}),
    ({}, "abcabc", {"a": 3}),
    # From the first token on: the beginning of the text is the beginning of the repetition.
    ({}, "aa", {}),
    ({}, "aaa", {"a": 2}),
    ({}, "aaaa", {"a": 3}),
    ({}, "abab", {"a": 2}),
    ({"dry_allowed_length": 0}, "a", {}),
    ({"dry_allowed_length": 0}, "ab", {"b": 0}),
    ({"dry_allowed_length": 1}, "aba", {"b": 1}),
    ({"dry_allowed_length": 9}, "abcabc", {}),
    ({"dry_penalty_last_n": 5}, "abcabc", {"a": 2}),
    ({"dry_penalty_last_n": 4}, "abcabc", {}),
    ({"dry_penalty_last_n": -1}, "abc" * 100, {"a": 297}),
    ({"dry_penalty_last_n": 0}, "abcabc", {}),
    # Two places that go on differently; the longest match of a token counts.
    ({}, "abcbaabdab", {"c": 2, "d": 2}),
    ({}, "cabaabacab", {"a": 3}),
    # Nothing is repeated across a breaker, nor is a breaker made less likely.
    (BREAKERS, "abcdabc", {}),
    (BREAKERS, "abdabcab", {"c": 2}),
    (BREAKERS, "abcabd", {}),
    (BREAKERS, "abdcab", {}),
    (BREAKERS, "dddd", {}),
    (BREAKERS, "cabccabc", {"c": 4}),
    # Breakers of several tokens.
    (SPANNING, "abcdeabcde", {}),
    (SPANNING, "eabeab", {"e": 3}),
    (SPANNING, "cdeecdee", {"c": 2}),
    (SPANNING, "edabcedabce", {"d": 2}),
    (SPANNING, "dadabacaa", {}),
]


@pytest.mark.parametrize(("settings", "text", "lengths"), DRIES, ids=lambda value: str(value)[:40])
def test_dry_by_hand(settings: dict[str, Any], text: str, lengths: dict[str, int]) -> None:
    settings = {"dry_multiplier": 1.0, "dry_base": 1.5, "dry_sequence_breakers": (), **settings}
    before = [ord(letter) - 97 for letter in text]
    _, plain = sampler({}).distribution(np.zeros(5, np.float32))
    ids, probabilities = sampler(settings, before).distribution(np.zeros(5, np.float32))
    allowed = settings.get("dry_allowed_length", 2)
    limit = 1.5 ** int(88.7228391 / math.log(1.5))
    wanted = np.zeros(5)
    for letter, length in lengths.items():
        wanted[ord(letter) - 97] = min(1.5 ** (length - allowed), limit)
    weights = np.exp(-wanted)
    assert len(plain) == 5
    np.testing.assert_allclose(probabilities, (weights / weights.sum())[ids], rtol=1e-6)


def test_prefix_lengths_are_their_definition() -> None:
    random = np.random.default_rng(4)
    for n in range(60):
        tokens = random.integers(0, 1 + n % 4, n).tolist()
        plain = [next((k for k in range(n - i) if tokens[k] != tokens[i + k]), n - i) for i in range(n)]
        assert prefix_lengths(tokens)[1:] == plain[1:]


SAID: list[tuple[Callable[[], Any], type[CkError], str]] = [
    (lambda: left({}, [math.nan, 1.0]), CkError, "logits: each must be a number, token 0 has NaN"),
    (lambda: left(ALL, [1.0, math.nan]), CkError, "token 1 has NaN"),
    (lambda: left(MIRO2, [-INF, -INF]), CkError, "logits: one must be above -inf, all are -inf"),
    (
        lambda: left({"logit_bias": {0: -INF}}, [1.0]),
        UsageError,
        "logit_bias: must leave a token that can be",
    ),
    (lambda: left({"ignore_eos": True}, [-INF] * 4 + [1.0]), UsageError, "logit_bias: must leave a token"),
    (
        lambda: left({"logit_bias": {9: 1.0}}, [1.0]),
        UsageError,
        "logit_bias: tokens must be from 0 to 0, found 9",
    ),
    (lambda: Sampler(SamplingParams(ignore_eos=True)), UsageError, "ignore_eos: needs the model's tokenizer"),
    (
        lambda: Sampler(SamplingParams(dry_multiplier=1)),
        UsageError,
        "dry_multiplier: needs the model's tokenizer",
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), SAID, ids=[words for _, _, words in SAID])
def test_what_is_said(call: Callable[[], Any], kind: type[CkError], words: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dynatemp_range": -0.1}, "dynatemp_range: must be 0 or more, got -0.1"),
    ({"dynatemp_exp": INF}, "dynatemp_exp: must be 0 or more, got inf"),
    ({"top_n_sigma": math.nan}, "top_n_sigma: must be a finite number, got nan"),
    ({"xtc_probability": 1.5}, "xtc_probability: must be from 0 to 1, got 1.5"),
    ({"xtc_threshold": -1}, "xtc_threshold: must be from 0 to 1, got -1"),
    ({"frequency_penalty": INF}, "frequency_penalty: must be a finite number, got inf"),
    ({"dry_multiplier": -1}, "dry_multiplier: must be 0 or more, got -1"),
    ({"dry_base": 0.9}, "dry_base: must be 1 or more, got 0.9"),
    ({"dry_allowed_length": -1}, "dry_allowed_length: must be 0 or more, got -1"),
    ({"dry_penalty_last_n": -2}, "dry_penalty_last_n: must be -1 or more, got -2"),
    ({"dry_sequence_breakers": ("",)}, "dry_sequence_breakers: must be texts that are not empty"),
    ({"mirostat": 3}, "mirostat: must be from 0 to 2, got 3"),
    ({"mirostat": 0.5}, "mirostat: must be a whole number, got 0.5"),
    ({"mirostat_tau": -1.0}, "mirostat_tau: must be 0 or more, got -1.0"),
    ({"mirostat_eta": math.nan}, "mirostat_eta: must be 0 or more, got nan"),
    ({"top_k": 1.5}, "top_k: must be a whole number, got 1.5"),
    ({"top_k": 10**400}, "top_k: must be below 2^31, got 1000"),
    ({"repeat_last_n": 2**63}, "repeat_last_n: must be below 2^31, got 9223372036854775808"),
    ({"dry_penalty_last_n": 1.5}, "dry_penalty_last_n: must be a whole number, got 1.5"),
    ({"seed": 0.5}, "seed: must be a whole number, got 0.5"),
    ({"min_keep": -1}, "min_keep: must be 0 or more, got -1"),
    ({"logit_bias": {-1: 1.0}}, "logit_bias: must be of tokens from 0 on, got -1"),
    ({"logit_bias": {1: math.nan}}, "logit_bias: must be a number or an infinity, got nan"),
    ({"samplers": "top_k;temprature"}, "samplers: each must be one of penalties;dry;top_n_sigma;"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=str)
def test_refusals(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        SamplingParams(**settings)
    assert words in str(caught.value)


def test_names_of_samplers() -> None:
    assert sampler_names("penalties; temp ;typical;nucleus;top-k;") == (
        "penalties", "temperature", "typ_p", "top_p", "top_k"
    )  # fmt: skip
    assert SamplingParams().samplers == ORDER
    assert sampler_names("") == ()


def test_a_repetition_in_the_reply_ends_with_it() -> None:
    made = sampler({"dry_multiplier": 50.0, "dry_sequence_breakers": (), "temp": 0.0}, [0, 1, 2, 0, 1])
    assert made.choose(np.array([0, 0, 1, 0, 0.5], np.float32)) == 4
    made.forget()
    assert made.choose(np.array([0, 0, 1, 0, 0.5], np.float32)) == 2


def test_mirostat_begins_anew_with_each_reply() -> None:
    made = sampler({**MIRO2, "mirostat_tau": 1.01, "mirostat_eta": 1.0})
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125])).astype(np.float32)
    assert len(made.distribution(logits)[0]) == 2
    # A sure token lets mu rise by tau.
    made.choose(np.array([9.0, -INF, -INF, -INF], np.float32))
    assert len(made.distribution(logits)[0]) == 4
    made.forget()
    assert len(made.distribution(logits)[0]) == 2


def test_settings_change_and_the_draws_go_on() -> None:
    changed, plain = sampler({}), sampler({})
    logits = np.array(FALLING, np.float32)
    for made in (changed, plain):
        made.choose(logits)
    changed.set(top_k=3)
    changed.set(top_k=0)
    assert [changed.choose(logits) for _ in range(30)] == [plain.choose(logits) for _ in range(30)]
    with pytest.raises(UsageError, match="top_p: must be from 0 to 1"):
        changed.set(top_p=3.0)
    assert changed.params == plain.params
    changed.set(seed=7)
    assert changed.seed == 7


def test_candidates_beyond_those_of_a_change_are_left_alone() -> None:
    row = Candidates(np.array([3.0, 2.0, 1.0]), np.array([7, 2, 9]))
    changed = row.changed(np.array([2, 4, 9]), lambda old, places: old + 10 * (places + 1))
    assert changed.ids.tolist() == [9, 2, 7]
    assert changed.values.tolist() == [31, 12, 3]
