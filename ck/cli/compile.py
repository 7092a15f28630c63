"""`ck compile MODEL`: what the compiler makes of a model, at any stage, as text; or the compiled program."""

from typing import TYPE_CHECKING, Any

import click

from ck.cli.options import ProgramOptions, compile_model, json_option, model_argument, program_options, take

if TYPE_CHECKING:
    from ck.runtime.model import Model

# What a backend makes: its text, its program.
SOURCES = ("c", "llvm")
OBJECTS = {"so": "c", "object": "llvm"}
AFTER_STAGES = (*SOURCES, "asm", *OBJECTS, "explain")


@click.command()
@model_argument
@click.option(
    "--emit",
    metavar="STAGE",
    help=f"graph, fused, scheduled or another stage; {', '.join(AFTER_STAGES[:-1])} or explain.",
)
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to standard output.")
@click.option("--check", is_flag=True, help="Execute before and after every pass, and compiled; compare.")
@program_options
@json_option
def command(
    model: str, emit: str | None, output: str | None, check: bool, as_json: bool, **given: Any
) -> None:
    """Compile MODEL, and print what --emit names; without it, print the facts of the program.

    A stage is IR as it stands after that stage of the pipeline, and ck-opt reads it back; `--emit help` lists
    them in order. c and llvm are what the backends compile, made of the scheduled IR, so and object what they
    make of it, asm the instructions of the program that runs here. explain tells for each fused group what is
    in it and why its neighbours are not.

    --check takes a minute or so for a small model: it runs what each pass takes and what it leaves on made-up
    weights and inputs, then the program of each backend, and compares at the tier that the pass promises.
    Exit code 5: they differ, and a line says where.
    """
    from ck.cli.output import write_json, write_result
    from ck.errors import UsageError

    if emit == "help":
        write_result("\n".join(products()), output)
        return
    if emit is not None and emit not in products():
        raise UsageError(f"--emit: must be one of {', '.join(products())}, got {emit}")
    if emit in OBJECTS and output is None:
        raise UsageError(f"--emit {emit}: needs -o FILE, a program is no text")
    compiled = compile_model(model, take(ProgramOptions, given), check=check)
    if emit is None:
        _print_info(compiled, as_json)
        return
    result = product(compiled, emit)
    if as_json and isinstance(result, str):
        write_json({"emit": emit, "text": result})
    else:
        write_result(result, output)


def products() -> list[str]:
    """What --emit takes: the stages in the pipeline's order, then what comes after them."""
    from ck.passes.pipeline import STAGES

    return [*(stage.name for stage in STAGES), *AFTER_STAGES]


def product(compiled: "Model", emit: str) -> str | bytes:
    """The text, or for a program the bytes, of one of `products`."""
    if emit in SOURCES:
        return compiled.source(emit)
    if emit in OBJECTS:
        return compiled.compiled(OBJECTS[emit])
    if emit == "asm":
        return compiled.assembly()
    return compiled.explain() if emit == "explain" else compiled.ir(emit)


def _print_info(compiled: "Model", as_json: bool) -> None:
    from ck.cli.output import printable, write_json, write_table

    if as_json:
        write_json(compiled.info)
    else:
        write_table([[name, printable(str(value))] for name, value in compiled.info.items()])
