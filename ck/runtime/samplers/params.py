"""`SamplingParams`: the settings of a chain, with llama.cpp's names and defaults, checked."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from ck.errors import UsageError

# The samplers and their order; llama.cpp, common/common.h.
ORDER = (
    "penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature",
)  # fmt: skip
# Other names that llama.cpp takes.
ALIASES = {"typical": "typ_p", "typical_p": "typ_p", "nucleus": "top_p", "temp": "temperature"}
BREAKERS = ("\n", ":", '"', "*")

# Ranges, both ends included, of what must be finite; None is no bound.
_RANGES: dict[str, tuple[float | None, float | None]] = {
    "temp": (None, None),
    "dynatemp_range": (0, None),
    "dynatemp_exp": (0, None),
    "typ_p": (0, 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_n_sigma": (None, None),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "presence_penalty": (None, None),
    "frequency_penalty": (None, None),
    "repeat_last_n": (-1, None),
    "dry_multiplier": (0, None),
    "dry_base": (1, None),
    "dry_allowed_length": (0, None),
    "dry_penalty_last_n": (-1, None),
    "mirostat": (0, 2),
    "mirostat_tau": (0, None),
    "mirostat_eta": (0, None),
    "min_keep": (0, None),
}

_WHOLE = ("top_k", "mirostat", "min_keep", "dry_allowed_length", "dry_penalty_last_n", "repeat_last_n")


@dataclass(frozen=True)
class SamplingParams:
    """What turns a sampler off: top_k 0, typ_p 1, top_p 1, min_p 0, top_n_sigma 0 or less, xtc_probability 0
    or xtc_threshold above 0.5, repeat_penalty 1, presence_penalty 0, frequency_penalty 0, dry_multiplier 0,
    dynatemp_range 0, mirostat 0. The last_n's: 0 is off, -1 all tokens so far. seed -1: a random one.

    samplers     the chain in its order; text takes them parted by ";"
    logit_bias   what is added to a token's logit, by token, from the beginning; a mapping or pairs
    ignore_eos   no token that ends a reply is chosen
    mirostat     1 or 2: bias, temperature and mirostat are the chain, whatever `samplers` has

    Raises UsageError.
    """

    temp: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exp: float = 1.0
    top_k: int = 40
    typ_p: float = 1.0
    top_p: float = 0.95
    min_p: float = 0.05
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = BREAKERS
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False
    min_keep: int = 0
    samplers: tuple[str, ...] = ORDER
    seed: int = -1

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        penalty = self.repeat_penalty
        _require(0 < penalty < math.inf, "repeat_penalty", "above 0 and finite", penalty)
        _require(-1 <= self.seed < 2**64, "seed", "-1 or from 0 to 2^64 - 1", self.seed)
        for name in _WHOLE:
            _require(getattr(self, name) % 1 == 0, name, "a whole number", getattr(self, name))
            _require(getattr(self, name) < 2**31, name, "below 2^31", getattr(self, name))
        _require(self.seed % 1 == 0, "seed", "a whole number", self.seed)
        # Frozen: what is written in other ways becomes one.
        object.__setattr__(self, "samplers", sampler_names(self.samplers))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        object.__setattr__(self, "dry_sequence_breakers", tuple(self.dry_sequence_breakers))
        breakers = self.dry_sequence_breakers
        _require("" not in breakers, "dry_sequence_breakers", "texts that are not empty", repr(breakers))

    def as_json(self) -> dict[str, Any]:
        """By name; an infinite bias is a text, as JSON has no infinity."""
        biases = [[token, str(bias) if math.isinf(bias) else bias] for token, bias in self.logit_bias]
        return {**asdict(self), "logit_bias": biases}

    @property
    def penalizes(self) -> bool:
        """Whether any penalty can change a logit."""
        on = self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        return on and self.repeat_last_n != 0

    @property
    def dries(self) -> bool:
        """Whether `dry` can change a logit."""
        return self.dry_multiplier != 0 and self.dry_penalty_last_n != 0


def sampler_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """The chain that is meant: names, or a text with names parted by ";". Raises UsageError."""
    words = given.split(";") if isinstance(given, str) else given
    names = tuple(name for name in map(_sampler_name, words) if name)
    wrong = next((name for name in names if name not in ORDER), None)
    if wrong is not None:
        raise UsageError(f"samplers: each must be one of {';'.join(ORDER)}, found {wrong!r}")
    return names


def is_sampler(word: str) -> bool:
    """Whether a chain may have it, in any spelling."""
    return _sampler_name(word) in ORDER


def _sampler_name(word: str) -> str:
    name = word.strip().replace("-", "_")
    return ALIASES.get(name, name)


def _biases(given: Any) -> tuple[tuple[int, float], ...]:
    pairs = tuple(cast("dict[int, float]", given).items() if isinstance(given, dict) else given)
    for token, bias in pairs:
        _require(token >= 0, "logit_bias", "of tokens from 0 on", token)
        _require(not math.isnan(bias), "logit_bias", "a number or an infinity", bias)
    return pairs


def _check_range(name: str, value: float, low: float | None, high: float | None) -> None:
    if low is None:
        _require(math.isfinite(value), name, "a finite number", value)
    elif high is None:
        _require(low <= value < math.inf, name, f"{low} or more", value)
    else:
        _require(low <= value <= high, name, f"from {low} to {high}", value)


def _require(holds: bool, name: str, what: str, value: object) -> None:
    if not holds:
        raise UsageError(f"{name}: must be {what}, got {value}")
