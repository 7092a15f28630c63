"""Training: data, run directories, the trainer and its gates.

The package is callable, so that `ck.train(...)` trains and `ck.train.runs` is a module:

r = ck.train(run="small", template="llama", data=["docs"], steps=200, layers=4)
r.dev_bits_per_byte
"""

import sys
from os import PathLike
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ck.train.runs import RunResult


class _CallableModule(ModuleType):
    def __call__(
        self,
        run: str | PathLike[str],
        *,
        toml: str | PathLike[str] | None = None,
        sets: tuple[str, ...] = (),
        watch: Any = None,
        **flags: Any,
    ) -> "RunResult":
        """Train run `run`, a name or a path, to its end; flags, `toml` and `sets` are what `ck train` takes.

        Raises UsageError with every mistake there is, MalformedError for bad data, ConflictError when the run
        is there already.
        """
        from ck.train.config import load_config
        from ck.train.rundir import run_name
        from ck.train.runs import start

        return start(run_name(run), load_config(toml, flags, sets), watch)


sys.modules[__name__].__class__ = _CallableModule
