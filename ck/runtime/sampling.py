"""From logits to a token: llama.cpp's samplers, with its names, defaults and order; ck/runtime/samplers.

    logit_bias -> penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature -> a draw

The chain is a function of the logits, the tokens so far and the seed: a draw is one float64 from numpy's
PCG64, whatever the candidates, and xtc, when it is on, takes one before it. Where the chain leaves a choice
open, it is fixed here:
- candidates are ordered by logit, falling; equal logits by token id, rising: argmax is the lowest.
- `temp` 0 (or less) leaves the likeliest of what comes to it.
- +inf beats everything finite; several +inf are equally likely. -inf is never chosen.
- NaN anywhere, or nothing but -inf, is a CkError: there is no right token.
Probabilities are float64. Source of order and defaults: llama.cpp, common/common.h and src/llama-sampler.cpp.
"""

import math
import secrets
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import CkError, CkWarning, MalformedError, UsageError
from ck.frontend.sampling_defaults import SamplingDefaults
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.samplers.candidates import Candidates, Floats, Ids
from ck.runtime.samplers.chain import make_chain
from ck.runtime.samplers.params import SamplingParams, is_sampler


class Sampler:
    """A chain with its random stream and the tokens it has seen. `seed` is the one in use, never -1.

    `tokenizer` is needed by ignore_eos and by DRY. Raises UsageError.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer | None = None) -> None:
        self.params = params
        self.seed = params.seed if params.seed >= 0 else secrets.randbits(32)
        self._tokenizer = tokenizer
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self.steps = make_chain(params, self._random, tokenizer)

    def set(self, **settings: Any) -> None:
        """Change settings; the random stream goes on unless `seed` is one of them. Raises UsageError."""
        params = replace(self.params, **settings)
        if "seed" in settings:
            seed = params.seed if params.seed >= 0 else secrets.randbits(32)
            random = np.random.Generator(np.random.PCG64(seed))
        else:
            seed, random = self.seed, self._random
        steps = make_chain(params, random, self._tokenizer)
        self.params, self.seed, self._random, self.steps = params, seed, random, steps

    def see(self, tokens: Iterable[int]) -> None:
        """Add tokens (the prompt's, or one that was chosen) to what the penalties look at."""
        tokens = list(tokens)
        for step in self.steps:
            step.see(tokens)

    def forget(self) -> None:
        """Begin a reply: nothing was seen; the random stream goes on."""
        for step in self.steps:
            step.forget()

    def choose(self, logits: NDArray[np.float32]) -> int:
        """The next token for `logits` [V] f32, which stay as they are; it is not yet `see`n."""
        ids, probabilities = self.distribution(logits)
        cumulative = np.cumsum(probabilities)
        target = self._random.random() * float(cumulative[-1])
        index = min(int(np.searchsorted(cumulative, target, side="right")), len(ids) - 1)
        for step in self.steps:
            step.drew(float(probabilities[index]))
        return int(ids[index])

    def distribution(self, logits: NDArray[np.float32]) -> tuple[Ids, Floats]:
        """The tokens the chain leaves and their probabilities, all above 0, most likely first."""
        check_logits(logits)
        row = Candidates(logits)
        for step in self.steps:
            row = step.apply(row)
        row = row.ordered()
        probabilities = row.probabilities()
        some = probabilities > 0
        return row.ids[some], probabilities[some]


def check_logits(logits: NDArray[np.float32]) -> None:
    """Raises CkError for NaN and for nothing but -inf."""
    # numpy's argmax stops at the first NaN, so looking at the best value finds any.
    token = int(np.argmax(logits))
    best = float(logits[token])
    if math.isnan(best):
        raise CkError(f"logits: each must be a number, token {token} has NaN; check the model file's hash")
    if best == -math.inf:
        raise CkError("logits: one must be above -inf, all are -inf; check the model file's hash")


def settle(given: Mapping[str, Any], defaults: SamplingDefaults | None) -> SamplingParams:
    """`given` settings; where one is not given, the model's own; else llama.cpp's.

    Raises UsageError for what is given, MalformedError for what the model has.
    """
    if defaults is None:
        return SamplingParams(**given)
    values = _known(defaults)
    try:
        SamplingParams(**values)
    except UsageError as error:
        raise MalformedError(
            f"{defaults.source}: {error}; --no-model-sampling or model_sampling=False leaves it out"
        ) from None
    return SamplingParams(**{**values, **given})


def _known(defaults: SamplingDefaults) -> dict[str, Any]:
    """The model's settings without the samplers that ck does not have, which a CkWarning names."""
    values = dict(defaults.values)
    names = str(values.pop("samplers", "")).split(";")
    known = [name for name in names if is_sampler(name)]
    unknown = [name for name in names if name.strip() and name not in known]
    if unknown:
        warnings.warn(f"{defaults.source}: sampler {unknown[0]!r} is none of ck's and left out", CkWarning, 3)
    return {**values, "samplers": known} if known else values
