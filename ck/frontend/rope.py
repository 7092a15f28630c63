"""The rotary embedding's frequencies, with every scaling that stretches a model's context.

    e[i]    = 2 i / D                               D the columns of a head that turn, i in [0, D/2)
    f[i]    = 1 / base^e[i]                         radians a position
    linear  f[i] / factor
    yarn    f[i] (1 - r[i]) + f[i] / factor r[i]    r a ramp from 0 at `low` to 1 at `high`, by the turns that
                                                    column i does in the context before the scaling:
                                                    beta_fast of them at low, beta_slow at high
    else    f[i] / divisor[i]                       the divisors of a model that lists them

yarn multiplies cosines and sines too, by 0.1 ln(factor) + 1 unless the model says otherwise. All in f32.
Sources: Su et al. 2021, arXiv:2104.09864 (base); Chen et al. 2023, arXiv:2306.15595 (linear); Peng et al.
2023, arXiv:2309.00071, sections 3.2 to 3.4 (yarn).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ck.frontend.hyperparameters import HyperParameters

Floats = NDArray[np.float32]
LINEAR, YARN = "linear", "yarn"
# The tensor of a GGUF file that divides frequencies.
DIVISORS = "rope_freqs.weight"
BETA_FAST, BETA_SLOW = 32.0, 1.0


def frequencies(hp: "HyperParameters", layer: int) -> Floats:
    """Radians a position of each pair of columns in `layer`: [rope_dims / 2] f32."""
    base, factor = hp.layer_rope(layer)
    plain = 1.0 / np.float32(base) ** exponents(hp.rope_dims)
    if hp.turns_apart(layer):
        return plain.astype(np.float32)
    if hp.rope_scaling == YARN:
        ramp = _ramp(hp)
        return (plain / np.float32(factor) * ramp + plain * (1 - ramp)).astype(np.float32)
    scaled = (plain / factor).astype(np.float32)
    return scaled / np.array(hp.rope_divisors, np.float32) if hp.rope_divisors else scaled


def attention_factor(hp: "HyperParameters", layer: int) -> float:
    """What cosines and sines are multiplied by in `layer`."""
    if hp.rope_scaling != YARN or hp.turns_apart(layer):
        return 1.0
    return yarn_attention(hp.rope_factor) * hp.rope_attention_factor


def yarn_attention(factor: float) -> float:
    """yarn's own factor of cosines and sines for positions divided by `factor`."""
    return 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def exponents(dims: int) -> Floats:
    """e of the formula: [dims / 2] f32."""
    return np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims)


def _ramp(hp: "HyperParameters") -> Floats:
    """How far each frequency is stretched: 0 not at all, 1 by the whole factor."""
    ends = [
        hp.rope_dims
        * math.log(hp.rope_original_context / (turns * 2 * math.pi))
        / (2 * math.log(hp.rope_base))
        for turns in (hp.rope_beta_fast, hp.rope_beta_slow)
    ]
    low, high = max(math.floor(ends[0]), 0), min(math.ceil(ends[1]), hp.rope_dims - 1)
    # Where the ramp has no width it is a step.
    width = high - low if high != low else 0.001
    columns = np.arange(hp.rope_dims // 2, dtype=np.float32)
    return np.clip((columns - low) / np.float32(width), 0, 1).astype(np.float32)
