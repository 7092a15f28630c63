"""`HyperParameters`: the numbers that shape a model, typed and in range, and how a GGUF header spells them.

Keys common to all families are read here; what a family adds or defaults differently is in its own file under
architectures/. Sources: the GGUF specification (section "LLM") for the keys.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ck.errors import UsageError
from ck.frontend.gguf import Metadata
from ck.frontend.gguf.cursor import shown
from ck.frontend.rope import BETA_FAST, BETA_SLOW, LINEAR, YARN
from ck.frontend.window_pattern import WINDOW_PATTERNS, window_pattern

LAYER_LIMIT = 1024
HEAD_LIMIT = 1024
HEAD_DIM_LIMIT = 4096
WIDTH_LIMIT = 1 << 20
VOCAB_LIMIT = 4 << 20
CONTEXT_LIMIT = 16 << 20
# Numbers that positions and rows are multiplied or divided by, in f32: neither they nor 1 over them overflow.
FACTOR_RANGE = (1e-30, 1e30)
# What the kernels of recurrent layers take.
STATE_KEY_LIMIT = 256
# .. and those of their training, of keys and values.
STATE_LIMIT = 128
TAPS_RANGE = (2, 8)


@dataclass(frozen=True)
class HyperParameters:
    """One model's sizes and constants.

    arch             general.architecture
    n_layers .. n_vocab   L, D, H, key/value heads, K, F, V of the axes' legend
    context_length   tokens the model was trained for
    rms_eps          epsilon of every RMSNorm, dimensionless
    rope_base        base of the rotary frequencies; rope_dims of each head's head_dim elements turn
    rope_factor      positions are divided by it; 1 when unscaled
    rope_base_local  base in layers with a window, which are never scaled, where window_apart
    sliding_window   tokens a window layer sees, itself included; 0 when every layer is global
    window_pattern   every window_pattern-th layer is global, the others have the window; 0: all have it
    attention_scale  factor of q.k before the softmax
    tied             the head is the embedding: the file has no output.weight
    rope_scaling     "linear", or "yarn": positions are not all divided alike (ck/frontend/rope.py)
    rope_original_context .. rope_attention_factor   of yarn: positions before the scaling, its two bounds in
                     turns, what cosines and sines are multiplied by beside yarn's own factor
    rope_divisors    what each frequency is divided by; empty for 1
    window_first     layers below it, counted from 0, are global too
    window_apart     layers with a window turn by a base of their own; else as the others do
    recurrent_layers whether each layer keeps a state in place of a cache; empty when none does. What such a
                     layer has:
    n_state_heads, n_state_keys    value heads, and key heads that they share
    state_key_dim, state_value_dim   columns of a key, of a value head
    conv_taps        rows that its filter reaches over
    log_decay        its decays are held as logarithms (ck/frontend/decays.py)
    """

    arch: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ffn: int
    n_vocab: int
    context_length: int
    rms_eps: float
    rope_base: float
    rope_dims: int
    rope_factor: float
    rope_base_local: float
    sliding_window: int
    window_pattern: int
    attention_scale: float
    tied: bool
    rope_scaling: str = LINEAR
    rope_original_context: int = 0
    rope_beta_fast: float = BETA_FAST
    rope_beta_slow: float = BETA_SLOW
    rope_attention_factor: float = 1.0
    rope_divisors: tuple[float, ...] = ()
    window_first: int = 0
    window_apart: bool = True
    recurrent_layers: tuple[bool, ...] = ()
    n_state_heads: int = 0
    n_state_keys: int = 0
    state_key_dim: int = 0
    state_value_dim: int = 0
    conv_taps: int = 0
    log_decay: bool = False

    def is_recurrent(self, layer: int) -> bool:
        """Whether `layer`, counted from 0, keeps a state and does not attend."""
        return bool(self.recurrent_layers) and self.recurrent_layers[layer]

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers that attend."""
        return tuple(layer for layer in range(self.n_layers) if not self.is_recurrent(layer))

    @property
    def conv_channels(self) -> int:
        """Columns that a recurrent layer filters: queries, keys and values."""
        return 2 * self.n_state_keys * self.state_key_dim + self.n_state_heads * self.state_value_dim

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What a recurrent layer keeps: the last rows that it filtered, and a matrix a value head. f32."""
        heads = (self.n_state_heads, self.state_key_dim, self.state_value_dim)
        return (self.conv_taps - 1, self.conv_channels), heads

    def is_local(self, layer: int) -> bool:
        """Whether `layer`, counted from 0, attends within the window only."""
        is_global = self.window_pattern > 0 and (layer + 1) % self.window_pattern == 0
        return self.sliding_window > 0 and layer >= self.window_first and not is_global

    def layer_window(self, layer: int) -> int:
        """Tokens that `layer` sees; 0 means all."""
        return self.sliding_window if self.is_local(layer) else 0

    def turns_apart(self, layer: int) -> bool:
        """Whether `layer` has the rotary embedding of rope_base_local."""
        return self.window_apart and self.is_local(layer)

    def layer_rope(self, layer: int) -> tuple[float, float]:
        """Base and position divisor of the rotary embedding in `layer`."""
        return (self.rope_base_local, 1.0) if self.turns_apart(layer) else (self.rope_base, self.rope_factor)

    def with_window(self, window: int, pattern: int = 0, first: int = 0) -> "HyperParameters":
        """These numbers with windows of `window` tokens, 0 for none, in layers that turn as the others do."""
        hp = replace(
            self, sliding_window=window, window_pattern=pattern, window_first=first, window_apart=False
        )
        return hp if any(hp.is_local(layer) for layer in range(self.n_layers)) else self


@dataclass(frozen=True)
class TemplateSizes:
    """What a template is asked for; None is the family's own default.

    layers, embed_dim, hidden_dim, num_heads, num_kv_heads, head_dim, vocab_size   L, D, F, H, key/value
    heads, K, V context_len   positions; rope_base, rms_eps, tied, sliding_window, window_pattern, and those
    of recurrent layers from state_heads (n_state_heads) on   as in `HyperParameters`
    attention_interval   every so many layers one attends, the others are recurrent
    """

    layers: int
    embed_dim: int
    hidden_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_len: int
    rope_base: float | None = None
    rms_eps: float | None = None
    tied: bool | None = None
    sliding_window: int | None = None
    window_pattern: int | None = None
    attention_interval: int | None = None
    state_heads: int | None = None
    state_keys: int | None = None
    state_key_dim: int | None = None
    state_value_dim: int | None = None
    conv_taps: int | None = None

    def windowed(self, hp: HyperParameters) -> HyperParameters:
        """`hp` with the window that was asked for: in all layers, unless a pattern says which are global."""
        if self.window_pattern and not self.sliding_window:
            raise UsageError(f"template {hp.arch}: window_pattern is of a sliding_window, found none")
        return hp.with_window(self.sliding_window or 0, self.window_pattern or 0)

    def refuse_windows(self, arch: str) -> None:
        """Raise UsageError when a family without windows is given one."""
        if self.sliding_window or self.window_pattern:
            raise UsageError(
                f"template {arch}: has no sliding window; leave sliding_window and window_pattern out"
            )

    def common(self, arch: str, rope_base: float, rms_eps: float, tied: bool) -> HyperParameters:
        """The numbers of a model whose layers are all global, with a family's defaults."""
        base = self.rope_base or rope_base
        return HyperParameters(
            arch=arch,
            n_layers=self.layers,
            d_model=self.embed_dim,
            n_heads=self.num_heads,
            n_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            d_ffn=self.hidden_dim,
            n_vocab=self.vocab_size,
            context_length=self.context_len,
            # As a GGUF header would hold it.
            rms_eps=float(np.float32(self.rms_eps or rms_eps)),
            rope_base=base,
            rope_dims=self.head_dim,
            rope_factor=1.0,
            rope_base_local=base,
            sliding_window=0,
            window_pattern=1,
            attention_scale=1 / math.sqrt(self.head_dim),
            tied=tied if self.tied is None else self.tied,
        )


class HeaderReader:
    """Reads the keys `<arch>.<name>`; a value out of range raises MalformedError naming the key."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.arch = metadata.text("general.architecture")

    def __contains__(self, name: str) -> bool:
        return f"{self.arch}.{name}" in self.metadata

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """An integer in [low, high]."""
        key = f"{self.arch}.{name}"
        value = self.metadata.integer(key, default)
        if not low <= value <= high:
            raise self.metadata.error(f"key {key} must be from {low} to {high}, found {value}")
        return value

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite float above 0, of a size whose inverse is one too."""
        key = f"{self.arch}.{name}"
        value = self.metadata.number(key, default)
        if not (math.isfinite(value) and value > 0):
            raise self.metadata.error(f"key {key} must be finite and above 0, found {value}")
        low, high = FACTOR_RANGE
        if not low <= value <= high:
            raise self.metadata.error(f"key {key} must be from {low} to {high}, found {value}")
        return value

    def refuse(self, name: str, neutral: int | float) -> None:
        """Raise UnsupportedError when the file sets `name` to more than `neutral`, which means "not used"."""
        key = f"{self.arch}.{name}"
        value = self.metadata.get(key, neutral)
        if not isinstance(value, int | float):
            raise self.metadata.error(f"key {key} must be a number, found {self.metadata.type_name(key)}")
        if value != neutral:
            raise self.metadata.unsupported(f"key {key} must be absent or {neutral}, found {value}")

    def common(self, n_vocab: int, tied: bool) -> HyperParameters:
        """What all families spell alike, with every layer global. Raises MalformedError, UnsupportedError."""
        n_heads, n_kv_heads = self._heads()
        d_model = self.integer("embedding_length", 1, WIDTH_LIMIT)
        head_dim = self._head_dim(d_model, n_heads)
        rope_dims = self.integer("rope.dimension_count", 2, head_dim, head_dim)
        if rope_dims % 2:
            raise self.metadata.error(f"key {self.arch}.rope.dimension_count must be even, found {rope_dims}")
        rope_base = self.positive("rope.freq_base", 1e4)
        hp = HyperParameters(
            arch=self.arch,
            n_layers=self._layers(),
            d_model=d_model,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            d_ffn=self.integer("feed_forward_length", 1, WIDTH_LIMIT),
            n_vocab=n_vocab,
            context_length=self.integer("context_length", 1, CONTEXT_LIMIT),
            rms_eps=self._rms_eps(),
            rope_base=rope_base,
            rope_dims=rope_dims,
            rope_factor=1.0,
            rope_base_local=rope_base,
            sliding_window=0,
            window_pattern=1,
            attention_scale=1 / math.sqrt(head_dim),
            tied=tied,
        )
        scaling = self._rope_scaling()
        if scaling.get("rope_scaling") == YARN and not rope_base > 1:
            raise self.metadata.error(f"key {self.arch}.rope.freq_base must be above 1, found {rope_base}")
        return replace(hp, **scaling)

    def windowed(self, hp: HyperParameters) -> HyperParameters:
        """`hp` with the file's window: in all layers, unless a pattern says which of them are global.

        Raises MalformedError, UnsupportedError.
        """
        window = self.integer("attention.sliding_window", 0, CONTEXT_LIMIT, 0)
        name = "attention.sliding_window_pattern"
        key = f"{self.arch}.{name}"
        if not isinstance(self.metadata.get(key), np.ndarray):
            return hp.with_window(window, self.integer(name, 0, LAYER_LIMIT, 0))
        kinds: list[bool] = self.metadata.numbers(key, "bool").tolist()
        if len(kinds) != hp.n_layers:
            raise self.metadata.error(f"key {key} must list {hp.n_layers} layers, found {len(kinds)}")
        found = window_pattern(kinds)
        if found is None:
            raise self.metadata.unsupported(f"key {key} must have {WINDOW_PATTERNS}, found others")
        return hp.with_window(window, *found)

    def recurrent(self, hp: HyperParameters, interval: int) -> HyperParameters:
        """`hp` with its recurrent layers: those listed, else all but every n-th; `interval` if n is not said.

        Raises MalformedError.
        """
        heads = self.integer("ssm.time_step_rank", 1, HEAD_LIMIT)
        keys = self.integer("ssm.group_count", 1, heads)
        width = self.integer("ssm.inner_size", 1, WIDTH_LIMIT)
        for name, whole, part in (("group_count", heads, keys), ("time_step_rank", width, heads)):
            if whole % part:
                key = f"{self.arch}.ssm.{name}"
                raise self.metadata.error(f"key {key} must be a divisor of {whole}, found {part}")
        return replace(
            hp,
            recurrent_layers=self._recurrent_layers(hp.n_layers, interval),
            n_state_heads=heads,
            n_state_keys=keys,
            state_key_dim=self.integer("ssm.state_size", 1, STATE_KEY_LIMIT),
            state_value_dim=width // heads,
            conv_taps=self.integer("ssm.conv_kernel", *TAPS_RANGE),
        )

    def _recurrent_layers(self, n_layers: int, interval: int) -> tuple[bool, ...]:
        key = f"{self.arch}.attention.recurrent_layers"
        if key not in self.metadata:
            interval = self.integer("full_attention_interval", 1, LAYER_LIMIT, interval)
            return tuple(bool((layer + 1) % interval) for layer in range(n_layers))
        listed = self.metadata.numbers(key, "bool")
        # Blocks that are left out are listed too.
        n_blocks = self.integer("block_count", 1, LAYER_LIMIT)
        if len(listed) != n_blocks:
            raise self.metadata.error(f"key {key} must list {n_blocks} blocks, found {len(listed)}")
        return tuple(map(bool, listed[:n_layers]))

    def _layers(self) -> int:
        """The blocks, without those behind them that predict further tokens."""
        n_blocks = self.integer("block_count", 1, LAYER_LIMIT)
        return n_blocks - self.integer("nextn_predict_layers", 0, n_blocks - 1, 0)

    def _heads(self) -> tuple[int, int]:
        n_heads = self.integer("attention.head_count", 1, HEAD_LIMIT)
        n_kv_heads = self.integer("attention.head_count_kv", 1, n_heads, n_heads)
        if n_heads % n_kv_heads:
            key = f"{self.arch}.attention.head_count_kv"
            raise self.metadata.error(f"key {key} must divide the {n_heads} heads, found {n_kv_heads}")
        return n_heads, n_kv_heads

    def _head_dim(self, d_model: int, n_heads: int) -> int:
        if "attention.key_length" not in self and d_model % n_heads:
            key = f"{self.arch}.attention.head_count"
            raise self.metadata.error(f"key {key} must divide the width {d_model}, found {n_heads}")
        head_dim = self.integer("attention.key_length", 2, HEAD_DIM_LIMIT, max(d_model // n_heads, 1))
        if self.integer("attention.value_length", 1, HEAD_DIM_LIMIT, head_dim) != head_dim:
            raise self.metadata.unsupported(
                f"key {self.arch}.attention.value_length must equal key_length {head_dim}"
            )
        if n_heads * head_dim > WIDTH_LIMIT:
            key = f"{self.arch}.attention.key_length"
            raise self.metadata.error(
                f"heads times key {key} must be at most {WIDTH_LIMIT}, found {head_dim}"
            )
        return head_dim

    def _rms_eps(self) -> float:
        eps = self.positive("attention.layer_norm_rms_epsilon")
        if eps >= 1:
            key = f"{self.arch}.attention.layer_norm_rms_epsilon"
            raise self.metadata.error(f"key {key} must be between 0 and 1, found {eps}")
        return eps

    def _rope_scaling(self) -> dict[str, Any]:
        """The fields of HyperParameters that say how positions are stretched."""
        # A factor alone is linear, as in llama.cpp; older files have it under another key.
        key, old = "rope.scaling.factor", "rope.scale_linear"
        alone = LINEAR if key in self or old in self else "none"
        kind = self.metadata.text(f"{self.arch}.rope.scaling.type", alone)
        if kind == "none":
            return {}
        if kind == LINEAR:
            return {"rope_factor": self.positive(old if key not in self and old in self else key)}
        if kind != YARN:
            name = f"{self.arch}.rope.scaling.type"
            raise self.metadata.unsupported(f"key {name} must be none, linear or yarn, found {shown(kind)}")
        self.refuse("rope.scaling.yarn_ext_factor", 1.0)
        self.refuse("rope.scaling.yarn_attn_factor", 1.0)
        self.refuse("rope.scaling.yarn_log_multiplier", 0.0)
        return {
            "rope_scaling": YARN,
            "rope_factor": self.positive(key),
            "rope_original_context": self.integer("rope.scaling.original_context_length", 1, CONTEXT_LIMIT),
            "rope_beta_fast": self.positive("rope.scaling.yarn_beta_fast", BETA_FAST),
            "rope_beta_slow": self.positive("rope.scaling.yarn_beta_slow", BETA_SLOW),
            "rope_attention_factor": self.positive("rope.scaling.attn_factor", 1.0),
        }
