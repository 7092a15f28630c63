"""`make_chain`: the steps that settings ask for, in their order. Samplers that are off are no steps.

    logit_bias -> the samplers in the order of the settings -> a draw
    logit_bias -> temperature -> mirostat -> a draw

Source: llama.cpp, common/sampling.cpp.
"""

import math
from collections.abc import Callable

import numpy as np

from ck.errors import UsageError
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.samplers.candidates import Step
from ck.runtime.samplers.dry import Dry, DrySettings
from ck.runtime.samplers.logit_bias import LogitBias
from ck.runtime.samplers.min_p import MinP
from ck.runtime.samplers.mirostat import Mirostat
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.samplers.penalties import Penalties
from ck.runtime.samplers.temperature import Temperature
from ck.runtime.samplers.top_k import TopK
from ck.runtime.samplers.top_n_sigma import TopNSigma
from ck.runtime.samplers.top_p import TopP
from ck.runtime.samplers.typ_p import TypicalP
from ck.runtime.samplers.xtc import Xtc


def make_chain(
    params: SamplingParams, random: np.random.Generator, tokenizer: Tokenizer | None = None
) -> list[Step]:
    """The steps in order.

    Raises UsageError for settings that need the tokenizer, and there is none: ignore_eos, and DRY's breakers.
    """
    steps = _bias(params, tokenizer)
    if params.mirostat:
        version = Mirostat(params.mirostat, params.mirostat_tau, params.mirostat_eta)
        return [*steps, Temperature(params.temp), version]
    for name in params.samplers:
        step = _MADE_BY[name](params, random, tokenizer)
        if step is not None:
            steps.append(step)
    return _without_idle(steps, params)


def _without_idle(steps: list[Step], params: SamplingParams) -> list[Step]:
    """The steps that decide: with temperature 0 those up to it, but filters right before it."""
    place = next((n for n, step in enumerate(steps) if isinstance(step, Temperature)), None)
    if place is None or params.temp > 0 or params.dynatemp_range > 0:
        return steps
    while place > 0 and steps[place - 1].keeps_best:
        del steps[place - 1]
        place -= 1
    return steps[: place + 1]


def _bias(params: SamplingParams, tokenizer: Tokenizer | None) -> list[Step]:
    biases = dict[int, float]()
    for token, bias in params.logit_bias:
        biases[token] = biases.get(token, 0.0) + bias
    if params.ignore_eos:
        if tokenizer is None:
            raise UsageError("ignore_eos: needs the model's tokenizer, there is none")
        biases.update(dict.fromkeys(tokenizer.eog_ids, -math.inf))
    return [LogitBias(biases)] if biases else []


def _dry(params: SamplingParams, random: np.random.Generator, tokenizer: Tokenizer | None) -> Step | None:
    if not params.dries:
        return None
    breakers = tuple(text.encode() for text in params.dry_sequence_breakers)
    if tokenizer is None:
        raise UsageError("dry_multiplier: needs the model's tokenizer, there is none")
    settings = DrySettings(
        params.dry_multiplier, params.dry_base, params.dry_allowed_length, params.dry_penalty_last_n, breakers
    )
    return Dry(settings, tokenizer.piece)


def _penalties(p: SamplingParams) -> Step | None:
    if not p.penalizes:
        return None
    return Penalties(p.repeat_last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty)


def _xtc(p: SamplingParams, random: np.random.Generator, tokenizer: Tokenizer | None) -> Step | None:
    off = p.xtc_probability <= 0 or p.xtc_threshold > 0.5
    return None if off else Xtc(p.xtc_probability, p.xtc_threshold, p.min_keep, random)


_Maker = Callable[[SamplingParams, np.random.Generator, Tokenizer | None], Step | None]
_MADE_BY: dict[str, _Maker] = {
    "penalties": lambda p, random, tokenizer: _penalties(p),
    "dry": _dry,
    "top_n_sigma": lambda p, random, tokenizer: TopNSigma(p.top_n_sigma) if p.top_n_sigma > 0 else None,
    "top_k": lambda p, random, tokenizer: TopK(p.top_k) if p.top_k > 0 else None,
    "typ_p": lambda p, random, tokenizer: TypicalP(p.typ_p, p.min_keep) if p.typ_p < 1 else None,
    "top_p": lambda p, random, tokenizer: TopP(p.top_p, p.min_keep) if p.top_p < 1 else None,
    "min_p": lambda p, random, tokenizer: MinP(p.min_p, p.min_keep) if p.min_p > 0 else None,
    "xtc": _xtc,
    "temperature": lambda p, random, tokenizer: Temperature(p.temp, p.dynatemp_range, p.dynatemp_exp),
}
