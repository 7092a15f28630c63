"""The arguments of `ck-opt`: those of xDSL's driver under their names, and ours, in groups."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from xdsl.xdsl_opt_main import VersionAction

DESCRIPTION = """\
ck's passes by hand: read IR of any stage, run passes, print IR, C or LLVM IR.

  ck-opt in.mlir -p ck-fuse-linear,ck-fuse-rows      run two passes
  ck-opt in.mlir -t c                                what is left of the pipeline, then C
  ck-opt in.mlir -p ck-fuse-rows --check             execute before and after each pass, compare
  ck-opt --reproduce FILE                            replay what a crash or a failed check left
  ck-opt --reduce FILE --test CMD                    shrink FILE while CMD fails on it"""

EXIT_CODES = """\
exit codes: 0 done, 2 usage, 3 malformed IR or IR that a pass declines, 5 a pass changed what the module
computes, 6 a file that cannot be written, 8 a full disk, 70 a defect in ck, 130 interrupted. Results go to
stdout, all else to stderr; CK_TRACEBACK=1 prints where an exception came from."""


def add_arguments(parser: ArgumentParser, passes: Sequence[str], targets: Sequence[str]) -> None:
    """Give `parser` every argument that the driver reads."""
    parser.prog = "ck-opt"
    parser.description = DESCRIPTION
    parser.formatter_class = RawDescriptionHelpFormatter
    names = fill(", ".join(passes), 108, initial_indent="passes: ", break_on_hyphens=False)
    parser.epilog = f"{names}\n\n{EXIT_CODES}"
    parser.add_argument("input_file", nargs="?", metavar="FILE", help="IR to read; stdin where there is none")
    parser.add_argument("-v", "--version", action=VersionAction, help="print the version and end")
    _add_running(parser, targets)
    _add_debugging(parser)
    _add_printing(parser)
    _add_reading(parser)


def _add_running(parser: ArgumentParser, targets: Sequence[str]) -> None:
    group = parser.add_argument_group("what to do")
    add = group.add_argument
    add("-p", "--passes", default="", metavar="PASS,…", help="passes to run; options in braces: p{a=1}")
    add("-t", "--target", default="mlir", help=f"what to print: {', '.join(targets)}")
    add("-o", "--output-file", metavar="OUT", help="where to print it instead of stdout")
    add("--check", action="store_true", help="execute the module before and after each pass, and compare")
    add("--disable-verify", action="store_true", help="do not verify between passes")


def _add_debugging(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("finding what is wrong")
    add = group.add_argument
    add("--reproduce", metavar="FILE", help="run what the reproducer FILE says, and end as it does")
    add("--reduce", metavar="FILE", help="shrink FILE while the command of --test fails on it")
    add("--test", metavar="CMD", help="a command; the file to try is put for %%s or {}, else at its end")
    add("--test-timeout", type=float, default=60, metavar="S", help="seconds for CMD (default: 60)")
    add(
        "--time-limit",
        type=float,
        metavar="S",
        help="seconds for shrinking (default: 300; after a failed --check 30)",
    )
    add("--no-reduce", action="store_true", help="after a failed --check keep the IR whole")
    add(
        "--reproducer-dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where crashes and failed checks leave their files (default: here)",
    )


def _add_printing(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("printing")
    add = group.add_argument
    add("--print-after", metavar="PASS", action="append", default=[], help="the IR after PASS, on stderr")
    add("--print-between-passes", action="store_true", help="the IR after each pass but the last, on stderr")
    add("--time-passes", action="store_true", help="a line for each pass, on stderr")
    add("--print-op-generic", action="store_true", help="ops in the generic form")
    add("--print-no-properties", action="store_true", help="properties among the attributes")
    add("--print-debuginfo", action="store_true", help="ops with their locations")
    add("--syntax-highlight", action="store_true", help="in colours, for terminals")


def _add_reading(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("reading")
    add = group.add_argument
    add("-f", "--frontend", choices=["mlir"], help="what FILE is written in, whatever its name ends in")
    add("--allow-unregistered-dialect", action="store_true", help="take ops of unknown dialects")
    add("--no-implicit-module", action="store_true", help="FILE holds the module op itself")
    add("--split-input-file", action="store_true", help="FILE holds several modules, `// -----` between them")
    add("--verify-diagnostics", action="store_true", help="print what a verifier or a pass says, exit with 0")
    add("--parsing-diagnostics", action="store_true", help="print what the parser says, exit with 0")
    add("--shrink", action="store_true", help="exit with 0 where xDSL's ShrinkException is raised")
