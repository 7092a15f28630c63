"""The sampler's flags, named and preset as in llama.cpp; ck/runtime/sampling.py says what each does."""

import re
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from ck.cli.options import F

_BIAS = re.compile(r"(\d{1,9})([+-](?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|inf))")
_ESCAPE = re.compile(r"\\([nrt\\\"'])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def unescape(text: str) -> str:
    r"""`text` with \n, \r, \t, \\, \" and \' as the characters they mean."""
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text)


def _biases(
    ctx: click.Context, param: click.Parameter, given: Sequence[str]
) -> tuple[tuple[int, float], ...]:
    pairs = list[tuple[int, float]]()
    for text in given:
        found = _BIAS.fullmatch(text)
        if found is None:
            raise click.BadParameter(f"must be an id and a signed number, as 15043+1, got {text}")
        pairs.append((int(found[1]), float(found[2])))
    return tuple(pairs)


def _breakers(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    return tuple(unescape(text) for text in given if text != "none")


def _stops(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(unescape, given))


def _option(*names: str, **settings: Any) -> Any:
    return click.option(*names, **settings)


def _float(*names: str, default: float, help: str) -> Any:
    return _option(*names, type=float, default=default, help=help)


def _int(*names: str, default: int, help: str) -> Any:
    return _option(*names, type=int, default=default, help=help)


_OPTIONS = (
    _int("-s", "--seed", default=-1, help="Seed of the draws; -1 is a random one."),
    _option(
        "--samplers",
        default="penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature",
        help="The samplers in their order.",
    ),
    _float("--temp", "--temperature", default=0.8, help="Temperature; 0 takes the likeliest token."),
    _float("--dynatemp-range", default=0.0, help="Let the temperature vary by this with the entropy."),
    _float("--dynatemp-exp", default=1.0, help="How it follows the entropy."),
    _int("--top-k", default=40, help="Keep the k likeliest tokens; 0 is all."),
    _float("--typical", "--typical-p", "typ_p", default=1.0, help="Keep typical tokens up to this mass."),
    _float("--top-p", default=0.95, help="Keep the likeliest tokens that reach this mass."),
    _float("--min-p", default=0.05, help="Keep tokens this likely, relative to the best."),
    _float(
        "--top-n-sigma",
        "--top-nsigma",
        default=-1.0,
        help="Keep logits so many deviations from the best; -1 is all.",
    ),
    _float("--xtc-probability", default=0.0, help="How often to drop the likeliest of the likely tokens."),
    _float("--xtc-threshold", default=0.1, help="What is likely for that; above 0.5 is off."),
    _float("--repeat-penalty", default=1.0, help="Divide recent tokens' logits by this."),
    _int("--repeat-last-n", default=64, help="Tokens that are recent; -1 is all."),
    _float("--presence-penalty", default=0.0, help="Subtract from recent tokens' logits."),
    _float("--frequency-penalty", default=0.0, help="The same, times their count."),
    _float("--dry-multiplier", default=0.0, help="Penalize tokens that go on with a repetition; 0 is off."),
    _float("--dry-base", default=1.75, help="How that grows with the repetition's length."),
    _int("--dry-allowed-length", default=2, help="Repetitions up to this length are free."),
    _int("--dry-penalty-last-n", default=64, help="Tokens that are searched for repetitions; -1 is all."),
    _option(
        "--dry-sequence-breaker",
        "dry_sequence_breakers",
        multiple=True,
        metavar="TEXT",
        callback=_breakers,
        help=r"""No repetition reaches across it; several, or none. Default: \n : \" *""",
    ),
    _int("--mirostat", default=0, help="1 or 2: bias, temperature and mirostat are all samplers."),
    _float(
        "--mirostat-ent", "mirostat_tau", default=5.0, help="The surprise that mirostat aims at, in bits."
    ),
    _float("--mirostat-lr", "mirostat_eta", default=0.1, help="How fast it corrects."),
    _option(
        "-l",
        "--logit-bias",
        multiple=True,
        metavar="ID±BIAS",
        callback=_biases,
        help="Add to a token's logit, as 15043+1; -inf bans it.",
    ),
    _option("--ignore-eos", is_flag=True, default=False, help="No token that ends a reply is chosen."),
    _int("--min-keep", default=0, help="Filters leave this many tokens at least."),
    _option(
        "--no-model-sampling",
        "model_sampling",
        is_flag=True,
        flag_value=False,
        default=True,
        show_default=False,
        help="Leave out what the model says of sampling.",
    ),
    _option(
        "--stop",
        multiple=True,
        metavar="TEXT",
        callback=_stops,
        help=r"End a reply before this text; several. \n and \t are escapes.",
    ),
)


def sampling_options(function: F) -> F:
    """The options of `ck.runtime.samplers.params.SamplingParams` by its names, `model_sampling`, `stop`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_sampling(given: dict[str, Any]) -> dict[str, Any]:
    """The sampler's settings, which are removed from `given`: those that the user or the environment gave."""
    from ck.runtime.samplers.params import SamplingParams

    context = click.get_current_context()
    taken = {name: given.pop(name) for name in SamplingParams.__dataclass_fields__}
    preset = (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return {name: value for name, value in taken.items() if context.get_parameter_source(name) not in preset}
