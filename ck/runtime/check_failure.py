"""What a failed check leaves: the least IR on which the pass fails likewise, in a file that replays it."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from ck.errors import CkError
from ck.ir.check.checker import Checker, Line
from ck.ir.check.failure import CheckFailure
from ck.ir.dialects import context
from ck.ir.reduce import Reduction
from ck.passes.pipeline import ORDER, mark, run_pass, tier_of
from ck.passes.reproducer import PassCrash, kept_line, unkept_line, write_reproducer
from ck.runtime.check_weights import StoredWeights
from ck.runtime.paths import cache_root

# Seconds for which the IR of a failed check is shrunk.
SHRINKING = 30.0

# An op's name in its text: `%y = ck.silu %x`, or `rt.call @kernel`.
_NAME = re.compile(r'(?:^|= )"?(\w+\.\w+)')

Report = Callable[[str], None]


def run_checked(checker: Checker, kind: type[ModulePass], module: ModuleOp, report: Report) -> list[Line]:
    """Run a pass and compare, as `Checker.after`.

    Raises CheckFailure, or PassCrash where the pass does not do its work, with a note on what replays it.
    """
    before = checker.held
    try:
        run_pass(context(), module, kind)
        module.verify()
    except CkError:
        raise
    except Exception as error:
        crash = PassCrash.raised(kind.name, error, str(before), [kind.name])
        crash.keep(cache_root() / "reproducers")
        raise crash from error
    try:
        return checker.after(kind, module, tier_of(kind))
    except CheckFailure as failure:
        keep_in_cache(failure, kind(), report)
        raise


def keep_in_cache(failure: CheckFailure, suspect: ModulePass | None, report: Report) -> None:
    """Keep a reproducer of `failure` in the cache, and note on the exception how to replay it."""
    kept = cache_root() / "reproducers"
    failure.add_note(keep_failure(failure, context(), suspect, SHRINKING, kept, report))


def keep_failure(
    failure: CheckFailure,
    context: Context,
    suspect: ModulePass | None,
    seconds: float,
    directory: Path,
    report: Report,
) -> str:
    """Write a reproducer of `failure`; returns what to do with it.

    Where a pass is the suspect its IR is shrunk for up to `seconds`. A compiled program stays whole: what is
    left of one need not end, so it is for --reduce, which runs it in another process.
    """
    before = failure.before
    if suspect is None:
        before = _noted(context, before)
    elif seconds:
        before = _shrunk(failure, context, suspect, seconds, report)
    passes = [str(suspect.spec())] if suspect else []
    try:
        path = write_reproducer(directory, before, passes, str(failure), ["--check"])
    except OSError as error:
        return unkept_line(directory, error)
    return kept_line(path)


def _noted(context: Context, text: str) -> str:
    """A complete program's text with the note that it is one."""
    module = Parser(context, text).parse_module()
    mark(module, ORDER[-1].name)
    return str(module)


def _shrunk(
    failure: CheckFailure, context: Context, suspect: ModulePass, seconds: float, report: Report
) -> str:
    """The text of a smaller module on which `suspect` fails likewise; all of it where its text does not."""
    module = Parser(context, failure.before).parse_module()

    def still_fails(tried: ModuleOp) -> bool:
        return fails_check(context, suspect, tried, failure)

    try:
        reduction = Reduction(module, still_fails, seconds, report)
    except (Exception, KeyboardInterrupt):
        # Its text does not fail, or fails in another way.
        return failure.before
    # Who does not want to wait gets the smallest so far.
    with suppress(KeyboardInterrupt):
        reduction.run()
    return str(reduction.best)


def fails_check(context: Context, suspect: ModulePass, module: ModuleOp, like: CheckFailure) -> bool:
    """Whether `suspect` changes what `module` computes, in a value that such an op made as in failure `like`.

    `module` is left as `suspect` leaves it.
    """
    checker = Checker(module, StoredWeights().draw)
    suspect.apply(context, module)
    module.verify()
    try:
        checker.after(type(suspect), module, tier_of(type(suspect)))
    except CheckFailure as failure:
        return _kind(failure.op) == _kind(like.op)
    return False


def _kind(op: str) -> str:
    """The name of the op whose text is `op`."""
    found = _NAME.search(op)
    return found[1] if found else ""
