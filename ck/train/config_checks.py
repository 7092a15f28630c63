"""What only two keys of a configuration together can get wrong."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ck.errors import UsageError
from ck.frontend.architectures.templates import TEMPLATES
from ck.frontend.template import default_head_dim, make_template
from ck.train.config_sources import LENGTHS, flag_or_key
from ck.train.schedules import check_schedule

if TYPE_CHECKING:
    from ck.train.config import ModelConfig, TrainConfig

# The steps of a run that does not say how long it is.
STEPS = 200
# The attention of inference works in pieces of this many elements of a head.
HEAD_DIM_STEP = 16

# The keys that a mistake is about, and its text.
Mistake = tuple[tuple[str, ...], str]
Label = Callable[[str], str]
BASE = "model.base"


def is_of_base(key: str) -> bool:
    """Whether the value of `key` is the base's where a run has one: sizes, first weights, the tokenizer."""
    return key in ("data.tokenizer", "data.special_tokens") or (key.startswith("model.") and key != BASE)


def base_mistakes(values: Mapping[str, Any], label: Label) -> Iterator[str]:
    """What does not go with a run from a model, or without one."""
    if values.get(BASE) is None:
        if values.get("lora.rank"):
            yield f"{label('lora.rank')}: needs a model to adapt, found none; give one with --from"
        return
    # A preset is one thing to leave out, however many keys it has.
    clashes = dict.fromkeys(label(key).partition(":")[0] for key in values if is_of_base(key))
    if clashes:
        yield (
            f"{label(BASE)}: the model's own sizes, weights and tokenizer must be taken, found "
            f"{', '.join(clashes)}; leave them out"
        )


def cross_mistakes(config: "TrainConfig", label: Label) -> Iterator[Mistake]:
    """Everything that does not go together; `label` says where a key's value stands."""
    if config.model.base is None:
        yield from _model(config, label)
    yield from _length(config, label)
    if not config.data.paths:
        yield ("data.paths",), f"{label('data.paths')}: at least one file or folder is required, found none"
    seq_len, context = config.run.seq_len, config.model.context_len
    if seq_len > context and config.model.base is None:
        yield (
            ("run.seq_len", "model.context_len"),
            f"{label('run.seq_len')}: must be at most the context of {context}, found {seq_len}, lower it or "
            f"pass --context-len {seq_len}",
        )


def _model(config: "TrainConfig", label: Label) -> Iterator[Mistake]:
    model = config.model
    if not model.template:
        yield (
            ("model.template",),
            f"{label('model.template')}: must be one of {', '.join(TEMPLATES)}, found none",
        )
    heads, kv_heads = model.num_heads, model.num_kv_heads
    if heads % kv_heads:
        yield (
            ("model.num_heads", "model.num_kv_heads"),
            f"{label('model.num_kv_heads')}: must divide the {heads} heads, found {kv_heads}, "
            f"pass --num-kv-heads {heads}, or fewer that divide them",
        )
    yield from _head_dim(model, label)
    if model.template:
        yield from _family(model)


def _head_dim(model: "ModelConfig", label: Label) -> Iterator[Mistake]:
    keys, found = ("model.head_dim",), str(model.head_dim)
    head_dim = float(model.head_dim)
    if not model.head_dim:
        keys = ("model.head_dim", "model.embed_dim", "model.num_heads")
        head_dim = float(default_head_dim(model.template, model.embed_dim, model.num_heads))
        found = f"{head_dim:g}, which is {model.embed_dim} / {model.num_heads}"
    if head_dim % HEAD_DIM_STEP:
        fits = math.ceil(head_dim / HEAD_DIM_STEP) * HEAD_DIM_STEP
        yield (
            keys,
            f"{label('model.head_dim')}: must be a multiple of {HEAD_DIM_STEP}, which attention at inference "
            f"needs, found {found}, pass --head-dim {fits}",
        )


def _family(model: "ModelConfig") -> Iterator[Mistake]:
    """What the family itself refuses. Sizes that are wrong above are put right first, to be named once."""
    chosen = model.model_dump(exclude={"base", "template", "init", "num_kv_heads", "head_dim", "vocab_size"})
    options = {name: value for name, value in chosen.items() if value is not None}
    try:
        make_template(model.template, head_dim=HEAD_DIM_STEP, vocab_size=1, **options)
    except UsageError as error:
        yield tuple(f"model.{name}" for name in options), str(error)


def _length(config: "TrainConfig", label: Label) -> Iterator[Mistake]:
    run = config.run
    given = [f"run.{name}" for name in LENGTHS if getattr(run, name) is not None]
    if len(given) > 1:
        flags = ", ".join(flag_or_key(f"run.{name}") for name in LENGTHS)
        yield tuple(given), f"{', '.join(map(label, given))}: one of {flags} is required, found {len(given)}"
        return
    step_tokens = run.seq_len * run.batch * run.grad_accum
    if run.total_tokens is not None and run.total_tokens < step_tokens:
        yield (
            ("run.total_tokens", "run.seq_len", "run.batch", "run.grad_accum"),
            f"{label('run.total_tokens')}: must be at least the {step_tokens} tokens of one step, "
            f"found {run.total_tokens}",
        )
    steps = run.steps if given else STEPS
    if steps is None:
        return
    try:
        check_schedule(steps, config.optim)
    except UsageError as error:
        yield ("run.steps", "optim.schedule", "optim.warmup", "optim.decay_steps"), str(error)
