"""`ck-opt`: passes by hand. Reads IR of any stage, runs passes, prints IR, C or LLVM IR.

    ck-opt in.mlir -p ck-fuse-linear,ck-fuse-rows       the passes' names are those of `ck/passes/pipeline.py`
    ck-opt in.mlir -t c                                 what is left of the pipeline, then C; or -t llvm

The options are those of xDSL's driver, --print-after PASS, and --check: execute the module before and after
each pass, on made-up inputs, and compare. Results go to stdout; what --check, --print-after,
--print-between-passes and --time-passes say goes to stderr. Exit codes: 2 usage, 3 malformed IR or IR that
a pass declines, 5 a pass changed what the module computes, 70 a defect.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from traceback import print_exc
from typing import IO

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.transforms.canonicalize import CanonicalizePass
from xdsl.utils.exceptions import DiagnosticException, ParseError
from xdsl.xdsl_opt_main import xDSLOptMain

from ck.cli.targets import TARGETS
from ck.errors import CkError, GateError, InternalError
from ck.ir.dialects import register
from ck.ir.rt.compare import EXACT, QUANTISED, Sample, differences
from ck.passes.pipeline import ORDER, mark


class CkOpt(xDSLOptMain):
    """xDSL's driver with ck's dialects, passes and targets."""

    def register_all_dialects(self) -> None:
        register(self.ctx)

    def register_all_passes(self) -> None:
        for kind in (*ORDER, CanonicalizePass):
            self.register_pass(kind.name, lambda kind=kind: kind)

    def register_all_targets(self) -> None:
        from xdsl.targets.mlir import MLIRTarget

        self.available_targets["mlir"] = lambda: MLIRTarget
        self.available_targets.update(TARGETS)

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        super().register_all_arguments(arg_parser)
        arg_parser.prog = "ck-opt"
        arg_parser.add_argument(
            "--print-after",
            metavar="PASS",
            action="append",
            default=[],
            help="print the IR after PASS to stderr",
        )

        arg_parser.add_argument(
            "--check", action="store_true", help="execute before and after each pass, and compare"
        )

    def prepare_input(self) -> tuple[list[tuple[IO[bytes], int]], str]:
        if self.args.frontend is None:
            self.args.frontend = "mlir"
        return super().prepare_input()

    def setup_pipeline(self) -> None:
        known = {kind.name for kind in (*ORDER, CanonicalizePass)}
        for name in self.args.print_after:
            if name not in known:
                raise _Usage(f"--print-after: takes one of {', '.join(sorted(known))}, got {name}")
        try:
            self.pipeline = PassPipeline.parse_spec(self.available_passes, self.args.passes, self._report)
        except Exception as error:
            raise _Usage(f"--passes: {error}") from error
        self._started = time.perf_counter()
        self._n_ops = 0

    def _report(self, done: ModulePass | None, module: ModuleOp, to_come: ModulePass | None) -> None:
        """Called before the first pass, between passes and after the last."""
        wall_ms = (time.perf_counter() - self._started) * 1e3
        n_before, self._n_ops = self._n_ops, sum(1 for _ in module.walk())
        if not self.args.disable_verify:
            module.verify()
        if done is not None:
            # Stages remember how far they have come; other modules stay as they are.
            if "ck.after" in module.attributes:
                mark(module, done.name)
            line = f"// after {done.name}: {wall_ms:.1f} ms, {n_before} -> {self._n_ops} ops"
            between = self.args.print_between_passes and to_come is not None
            if between or done.name in self.args.print_after:
                print(line, module, sep="\n", file=sys.stderr)
            elif self.args.time_passes:
                print(line, file=sys.stderr)
        if self.args.check:
            self._check(done, module)
        self._started = time.perf_counter()

    def _check(self, done: ModulePass | None, module: ModuleOp) -> None:
        """Compare the module with what it was before pass `done`."""
        if done is None:
            self._sample = Sample(module)
            self._held = self._sample.run(module)
            return
        before, self._held = self._held, self._sample.run(module)
        bound = QUANTISED if done.name == "ck-assign-layouts" else EXACT
        for name, error in differences(before, self._held).items():
            if isinstance(error, str):
                print(f"// check {done.name}: @{name} not compared: {error}", file=sys.stderr)
                continue
            print(f"// check {done.name}: @{name} differs by {error:.1e} of {bound:.0e}", file=sys.stderr)
            if error > bound:
                raise GateError(
                    f"{done.name} changes what @{name} computes: NMSE {error:.1e}, allowed {bound:.0e}"
                )


class _Usage(CkError):
    exit_code = 2


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Errors go to stderr, one line each."""
    name = "ck-opt"
    try:
        tool = CkOpt("ck's passes by hand", list(arguments))
        name = tool.get_input_name()
        if tool.args.input_file and not Path(tool.args.input_file).is_file():
            raise _Usage(f"{name}: no such file")
        tool.run()
        return 0
    except CkError as error:
        print(f"ck-opt: {error}", file=sys.stderr)
        return error.exit_code
    except ParseError as error:
        print(f"ck-opt: {error}", file=sys.stderr)
    except DiagnosticException as error:
        print(f"ck-opt: {name}: {error}", file=sys.stderr)
    except InternalError:
        print_exc()
        return InternalError.exit_code
    return 3


def main() -> None:
    """The command `ck-opt`."""
    sys.exit(run(sys.argv[1:]))
