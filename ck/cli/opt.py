"""`ck-opt`: passes by hand. Reads IR of any stage, runs passes, prints IR, C or LLVM IR.

    ck-opt in.mlir -p ck-fuse-linear,ck-fuse-rows       the passes' names are those of `ck/passes/pipeline.py`
    ck-opt in.mlir -t c                                 what is left of the pipeline, then C; or -t llvm

The options are those of xDSL's driver and those for finding what is wrong (ck/cli/opt_arguments.py). A pass
that crashes, or that --check finds to change what the module computes, leaves a file that replays it.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from traceback import print_exception
from typing import IO

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.passes import ModulePass, PassPipeline
from xdsl.transforms.canonicalize import CanonicalizePass
from xdsl.utils.arg_spec import parse_spec
from xdsl.utils.exceptions import ArgSpecParseError, DiagnosticException, ParseError, VerifyException
from xdsl.utils.target import Target
from xdsl.xdsl_opt_main import xDSLOptMain

from ck.cli import opt_reduce
from ck.cli.main import RESOURCE_ERRORS, notes_of
from ck.cli.opt_arguments import add_arguments
from ck.cli.opt_check import PassCheck, keep_failure
from ck.cli.output import write_result
from ck.cli.targets import TARGETS, has_entry
from ck.errors import CkError, InternalError, MachineError, ResourceError, UsageError
from ck.ir.check.failure import CheckFailure
from ck.ir.dialects import register
from ck.passes.pipeline import ORDER, mark, remaining
from ck.passes.reproducer import PassCrash, read_reproducer

_VERIFIED = Attribute.__post_init__


class CkOpt(xDSLOptMain):
    """xDSL's driver with ck's dialects, passes and targets."""

    def register_all_dialects(self) -> None:
        register(self.ctx)

    def register_all_passes(self) -> None:
        for kind in (*ORDER, CanonicalizePass):
            self.register_pass(kind.name, lambda kind=kind: kind)

    def register_all_targets(self) -> None:
        from xdsl.targets.mlir import MLIRTarget

        self._target_kinds: dict[str, type[Target]] = {"mlir": MLIRTarget, **TARGETS}
        for name, kind in self._target_kinds.items():
            self.available_targets[name] = partial(_same, kind)

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        add_arguments(arg_parser, list(self.available_passes), list(self.available_targets))

    def setup_pipeline(self) -> None:
        # --disable-verify is about passes. The driver also lets every later attribute of this process be
        # made unverified, sizes that are no whole blocks among them.
        Attribute.__post_init__ = _VERIFIED
        self._take_files()
        for name in self.args.print_after:
            if name not in self.available_passes:
                raise UsageError(
                    f"--print-after: takes one of {', '.join(sorted(self.available_passes))}, got {name}"
                )
        try:
            self.pipeline = PassPipeline.parse_spec(self.available_passes, self.args.passes)
        except (Exception, ArgSpecParseError) as error:
            raise UsageError(f"--passes: {_last_line(error)}") from error
        try:
            spec = parse_spec(self.args.target)
            self._target_kinds[spec.name].from_spec(spec)
        except Exception as error:
            raise UsageError(f"--target: {_last_line(error)}") from error

    def _take_files(self) -> None:
        """Put the file of --reproduce or --reduce where the driver looks; refuse what makes no sense."""
        args = self.args
        given = [name for name in ("reproduce", "reduce", "input_file") if getattr(args, name) is not None]
        if len(given) > 1:
            raise UsageError(f"ck-opt: takes one file, got {' and '.join(getattr(args, n) for n in given)}")
        if (args.reduce is None) != (args.test is None):
            raise UsageError("--reduce: takes a file and --test a command, both or none of them")
        twice = args.reproduce or args.reduce
        if args.input_file == "-":
            args.input_file = None
        args.input_file = args.input_file or twice
        if args.input_file and not _can_be_read(args.input_file, twice=twice is not None):
            raise UsageError(f"{args.input_file}: no such file")
        if args.reproduce is not None:
            if args.passes or args.check or args.target != "mlir":
                raise UsageError(
                    "--reproduce: the file says which passes to run; leave out -p, -t and --check"
                )
            recorded = read_reproducer(Path(args.reproduce))
            if recorded.target not in self.available_targets:
                names = ", ".join(self.available_targets)
                raise UsageError(f"{args.reproduce}: --target takes one of {names}, got {recorded.target}")
            args.passes, args.target, args.check = recorded.passes, recorded.target, recorded.check

    def prepare_input(self) -> tuple[list[tuple[IO[bytes], int]], str]:
        if self.args.frontend is None:
            self.args.frontend = "mlir"
        return super().prepare_input()

    def prepare_output(self) -> IO[str]:
        # What a reproducer computes is of no interest, only how it ends.
        if self.args.reproduce:
            return StringIO()
        return sys.stdout if self.args.output_file is None else self._output

    def act(self) -> int:
        """Do what the arguments say; the exit code of what did not fail."""
        args = self.args
        if args.reduce is not None:
            command = opt_reduce.Command.parse(args.test, args.test_timeout)
            seconds = opt_reduce.SECONDS if args.time_limit is None else args.time_limit
            return opt_reduce.reduce_file(Path(args.reduce), self._parse, command, seconds, args.output_file)
        self._output = _Kept()
        self.run()
        if args.reproduce is not None:
            print(f"{args.reproduce}: does not fail any more")
        elif args.output_file is not None:
            # Whole or not at all, and it may be the file that was read.
            write_result(self._output.getvalue(), args.output_file)
        return 0

    def _parse(self, text: str) -> ModuleOp:
        return Parser(self.ctx, text, self.get_input_name()).parse_module(not self.args.no_implicit_module)

    def apply_passes(self, prog: ModuleOp) -> None:
        """Run the passes, and print, time, verify and check between them as the arguments say."""
        if not self.args.disable_verify:
            prog.verify()
        check = PassCheck(prog) if self.args.check else None
        passes = self.pipeline.passes
        self._run_passes(passes, prog, check)
        if check is None:
            return
        if parse_spec(self.args.target).name in TARGETS and has_entry(prog):
            # The target would run what is left of the pipeline by itself, unchecked.
            left = tuple(kind() for kind in remaining(prog))
            prog.attributes.setdefault("ck.after", StringAttr(""))
            self._run_passes(left, prog, check)
            passes = (*passes, *left)
        self._check(lambda: check.compiled(prog, passes), None)

    def _run_passes(self, passes: Sequence[ModulePass], prog: ModuleOp, check: PassCheck | None) -> None:
        n_ops = _n_ops(prog)
        for number, each in enumerate(passes, 1):
            before = prog.clone()
            started = time.perf_counter()
            self._guarded(each.name, before, [str(each.spec())], lambda each=each: each.apply(self.ctx, prog))
            wall_ms = (time.perf_counter() - started) * 1e3
            if not self.args.disable_verify:
                _verify(prog, each, before)
            # Stages remember how far they have come; other modules stay as they are.
            if "ck.after" in prog.attributes:
                mark(prog, each.name)
            n_before, n_ops = n_ops, _n_ops(prog)
            line = f"// after {each.name}: {wall_ms:.1f} ms, {n_before} -> {n_ops} ops"
            self._print(line, each, prog, number == len(passes))
            if check is not None:
                self._check(lambda check=check, each=each: check.after(each, prog), each)

    def _guarded(self, what: str, before: ModuleOp, passes: Sequence[str], act: Callable[[], object]) -> None:
        """Do `act`, and turn what no pass and no target may raise into a PassCrash."""
        try:
            act()
        except (CkError, DiagnosticException):
            raise
        except Exception as error:
            options = [] if passes else [f"--target={self.args.target}"]
            raise PassCrash.raised(what, error, str(before), passes, options) from error

    def _print(self, line: str, done: ModulePass, module: ModuleOp, is_last: bool) -> None:
        between = self.args.print_between_passes and not is_last
        if between or done.name in self.args.print_after:
            print(line, module, sep="\n", file=sys.stderr)
        elif self.args.time_passes:
            print(line, file=sys.stderr)

    def _check(self, act: Callable[[], None], suspect: ModulePass | None) -> None:
        """Do `act`, and leave a reproducer where it finds that `suspect`, or what was compiled, is wrong."""
        try:
            act()
        except CheckFailure as failure:
            print(f"ck-opt: {failure}", file=sys.stderr)
            if self.args.reproduce is None:
                seconds = 0 if self.args.no_reduce else self.args.time_limit
                where = self.args.reproducer_dir
                print(f"ck-opt: {keep_failure(failure, self.ctx, suspect, seconds, where)}", file=sys.stderr)
            raise

    def output_resulting_program(self, prog: ModuleOp) -> str:
        before, texts = prog.clone(), list[str]()
        make = super().output_resulting_program
        what = f"target {self.args.target}"
        self._guarded(what, before, [], lambda: texts.append(make(prog)))
        return texts[0]

    def tell_crash(self, crash: PassCrash) -> int:
        """Say what crashed and what replays it; the exit code."""
        if os.environ.get("CK_TRACEBACK") == "1":
            print_exception(crash, file=sys.stderr)
        print(f"ck-opt: this is a defect in ck: {crash}", file=sys.stderr)
        if self.args.reproduce is None:
            crash.keep(self.args.reproducer_dir)
            for note in notes_of(crash):
                print(f"ck-opt: {note}", file=sys.stderr)
        return crash.exit_code


class _Kept(StringIO):
    """Output that is still there when the driver has closed it."""

    def close(self) -> None:
        self.flush()


def _same(kind: type[Target]) -> type[Target]:
    return kind


def _can_be_read(path: str, twice: bool) -> bool:
    """Whether there is a file at `path`, or a pipe or a device, which can be read but once."""
    try:
        return Path(path).is_file() or (not twice and Path(path).exists() and not Path(path).is_dir())
    except OSError:
        return False


def _last_line(error: BaseException) -> str:
    """What an error says after it has shown where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _n_ops(module: ModuleOp) -> int:
    return sum(1 for _ in module.walk())


def _verify(module: ModuleOp, done: ModulePass, before: ModuleOp) -> None:
    """Raises PassCrash when pass `done` made of `before` what does not verify."""
    try:
        module.verify()
    except VerifyException as error:
        why = f"left what does not verify: {error}"
        raise PassCrash(done.name, why, str(before), [str(done.spec())]) from error


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Errors go to stderr, one line each."""
    try:
        tool = CkOpt("", list(arguments))
    except ArgSpecParseError as error:
        return _say(f"--target: {_last_line(error)}", UsageError.exit_code)
    except CkError as error:
        return _say(str(error), error.exit_code)
    try:
        return tool.act()
    except CheckFailure as failure:
        return failure.exit_code
    except PassCrash as crash:
        return tool.tell_crash(crash)
    except Exception as error:
        return _tell(error, tool.get_input_name())


def _tell(error: Exception, name: str) -> int:
    """Print an error; the exit code."""
    if isinstance(error, CkError):
        return _say(str(error), error.exit_code)
    if isinstance(error, ParseError):
        return _say(str(error), 3)
    if isinstance(error, DiagnosticException):
        return _say(f"{name}: {error}", 3)
    if isinstance(error, UnicodeDecodeError):
        return _say(f"{name}: IR is UTF-8 text, byte {error.start} is not", 3)
    if isinstance(error, RecursionError):
        return _say(f"{name}: regions are nested deeper than can be read", 3)
    if isinstance(error, OSError):
        kind = ResourceError if error.errno in RESOURCE_ERRORS else MachineError
        return _say(f"{error.filename or 'output'}: {error.strerror}", kind.exit_code)
    print_exception(error, file=sys.stderr)
    return InternalError.exit_code


def _say(line: str, code: int) -> int:
    print(f"ck-opt: {line}", file=sys.stderr)
    return code


def main() -> None:
    """The command `ck-opt`."""
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    sys.exit(code)


if __name__ == "__main__":
    main()
