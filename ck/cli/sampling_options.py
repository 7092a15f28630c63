"""The sampler's flags, named and preset as in llama.cpp; ck/runtime/sampling.py says what each does."""

import click

from ck.cli.options import F

_OPTIONS = (
    click.option("-s", "--seed", type=int, default=-1, help="Seed of the draws; -1 is a random one."),
    click.option("--temp", type=float, default=0.8, help="Temperature; 0 takes the likeliest token."),
    click.option("--top-k", type=int, default=40, help="Keep the k likeliest tokens; 0 is all."),
    click.option("--typical", "typ_p", type=float, default=1.0, help="Keep typical tokens up to this mass."),
    click.option("--top-p", type=float, default=0.95, help="Keep the likeliest tokens that reach this mass."),
    click.option("--min-p", type=float, default=0.05, help="Keep tokens this likely, relative to the best."),
    click.option("--repeat-penalty", type=float, default=1.0, help="Divide recent tokens' logits by this."),
    click.option("--repeat-last-n", type=int, default=64, help="Tokens that are recent; -1 is all."),
    click.option("--presence-penalty", type=float, default=0.0, help="Subtract from recent tokens' logits."),
    click.option("--frequency-penalty", type=float, default=0.0, help="The same, times their count."),
)


def sampling_options(function: F) -> F:
    """The options of `ck.runtime.sampling.SamplingParams`, by its names."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
