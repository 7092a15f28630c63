"""The last stretch of `--check`: the compiled program does what the interpreter of its IR says.

A scheduled module is compiled by each backend there is and runs every case of the checker on one thread and
on two. Memory starts as bytes of 0xFF, which are NaN, so what reads a byte that nobody wrote shows. Results
and states agree with the interpreter to f32 rounding, and bit for bit with one another.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, SSAValue

from ck.backend.backends import BACKENDS, Backend, backend
from ck.errors import MachineError
from ck.frontend.model import open_model
from ck.frontend.model_file import ModelFile
from ck.frontend.template import Template
from ck.ir.check.cases import Case
from ck.ir.check.checker import Checker, Line, differences
from ck.ir.check.failure import CheckFailure, Finding
from ck.ir.check.runs import Outcome, entries, live_rows, named_cache, outputs
from ck.ir.check.states import caches_of, written_weights
from ck.ir.check.tier import BITS, Tier
from ck.ir.evaluate import Kept, find_function
from ck.ir.rt.manifest import manifest_of
from ck.ir.rt.ops import AllocOp
from ck.ir.rt.slots import CacheSlot
from ck.ir.types import is_buffer, shape
from ck.passes.pipeline import STAGES, TRAINING_STAGES
from ck.passes.reproducer import PassCrash
from ck.runtime.check_failure import keep_in_cache, run_checked
from ck.runtime.check_weights import StoredWeights
from ck.runtime.compilation import backend_crash, compile_module, model_graph, plan_of, training_graph
from ck.runtime.options import Options
from ck.runtime.paths import cache_root
from ck.runtime.program import Program, pointer_table

KERNELS = Tier(1e-9, "kernels in place of their ops' references", quantized=1e-5, rounded=1e-2, coarse=1e-2)
THREADS = (1, 2)


class CompiledCheck:
    """A checker whose weights a compiled program can read, and what holds a program against it."""

    def __init__(self, module: ModuleOp, given: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        self._stored = StoredWeights()
        self._packed: dict[str, NDArray[np.uint8]] = {}
        self.checker = Checker(module, self._stored.draw, given)

    def packed(self, name: str, of: Attribute, values: NDArray[np.float32], fresh: bool) -> NDArray[np.uint8]:
        """A weight as a program reads it; `fresh` where the program writes it, or its values are a case's."""
        if fresh:
            return self._stored.packed(name, of, values)
        if name not in self._packed:
            self._packed[name] = self._stored.packed(name, of, values)
        return self._packed[name]

    def compiled(self, module: ModuleOp, backends: Sequence[str] = BACKENDS) -> Iterator[tuple[str, Line]]:
        """Compile a scheduled module that the checker has just seen; a line for each backend and entry.

        A backend without a compiler that works says so. Raises CheckFailure, PassCrash.
        """
        first: dict[tuple[str, Case], Outcome] = {}
        for name in backends:
            made_by = backend(name)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    made_by.require()
                    program = self._program(module, made_by, Path(folder))
                except MachineError as error:
                    yield name, Line("", KERNELS, reason=str(error))
                    continue
                for entry in entries(module):
                    yield name, self._entry(module, program, made_by, entry, first)

    def _program(self, module: ModuleOp, made_by: Backend, folder: Path) -> Path:
        try:
            return compile_module(module, made_by, folder)
        except MachineError as error:
            if not made_by.works():
                raise
            raise backend_crash("--check", module, made_by, error) from error

    def _entry(
        self,
        module: ModuleOp,
        program: Path,
        made_by: Backend,
        entry: str,
        first: dict[tuple[str, Case], Outcome],
    ) -> Line:
        inputs = self.checker.inputs
        tier = inputs.where(KERNELS)
        errors: list[float] = []
        for case in self.checker.cases(entry):
            wanted = self.checker.outcomes[entry, case]
            if isinstance(wanted, str):
                return Line(entry, tier, reason=wanted)
            run = _Run(self, module, entry, case)
            for threads in THREADS:
                got = run.outcome(program, threads)
                who = f"{made_by.name} on {threads} thread{'s' * (threads > 1)}"
                errors += self._agree(
                    module, (wanted, got), tier, entry, case, f"{who}, against the interpreter"
                )
                if (entry, case) in first:
                    pair = (first[entry, case], got)
                    self._agree(module, pair, BITS, entry, case, f"{who}, against the first program")
                first.setdefault((entry, case), got)
        return Line(entry, tier, max(errors, default=0.0))

    def _agree(
        self, module: ModuleOp, pair: tuple[Outcome, Outcome], tier: Tier, entry: str, case: Case, who: str
    ) -> list[float]:
        errors: list[float] = []
        for key, difference in differences(*pair, tier, case):
            if not difference.agrees and not self.checker.noise.allows(entry, case, key, pair, tier):
                finding = Finding(who, entry, str(case), key, difference, tier)
                raise CheckFailure(finding, str(module))
            errors.append(difference.error)
        return errors


class _Checked(Program):
    """A program whose memory starts as NaN."""

    def forget(self) -> None:
        """Fill arena and caches with bytes of 0xFF."""
        for memory in (self._arena, *self.caches):
            memory[:] = 0xFF


class _Run:
    """One entry of a compiled program in one case."""

    def __init__(self, check: CompiledCheck, module: ModuleOp, entry: str, case: Case) -> None:
        self.check, self.module, self.entry, self.case = check, module, entry, case
        self.function = find_function(module, entry)
        self.manifest = manifest_of(module)
        self.written = set(written_weights(module, self.function))

    def outcome(self, program: Path, threads: int) -> Outcome:
        """What it gives, under the names that the interpreters' runner uses."""
        weights = {slot.name: self._weight(slot.name) for slot in self.manifest.weights}
        loaded = _Checked(program, self.manifest, pointer_table(list(weights.values())), threads)
        try:
            loaded.forget()
            self._fill(loaded)
            outcome = Outcome(self._calls(loaded))
        finally:
            loaded.close()
        for name in sorted(self.written):
            sizes = shape(self.check.checker.inputs.type_of(name))
            outcome.values[f"@{name}"] = weights[name].view(np.float32).reshape(sizes)
        wanted = self.check.checker.outcomes[self.entry, self.case]
        for slot, memory in zip(self.manifest.caches, loaded.caches, strict=True):
            found = named_cache(slot.name, unpack_cache(slot, memory))
            if isinstance(wanted, Outcome) and found.keys() <= wanted.values.keys():
                outcome.values |= found
        return outcome

    def _calls(self, loaded: Program) -> dict[str, NDArray[Any]]:
        runner, found = self.check.checker.runner, dict[str, NDArray[Any]]()
        for number, call in enumerate(self.case.calls):
            args = runner.arguments(self.module, self.function, call, self.case)
            named = dict(zip(self.manifest.entries[self.entry], args, strict=True))
            buffers = {slot.name: value for slot, value in named.items() if isinstance(value, np.ndarray)}
            loaded.bind(buffers)
            loaded.run(self.entry, call.n, call.pos if "pos" in {slot.name for slot in named} else None)
            suffix = f" of call {number + 1}" if number else ""
            given = dict[SSAValue, Any](zip(self.function.body.block.args, args, strict=True))
            for output in outputs(self.module, self.function):
                value = live_rows(self.function, output, given[output.value], call)
                found[output.key + suffix] = value
        return found

    def _weight(self, name: str) -> NDArray[np.uint8]:
        of = self.check.checker.inputs.type_of(name)
        values = self.check.checker.inputs.weight(name, self.case)
        fresh = name in self.written or self.check.checker.inputs.altered(name, self.case)
        return self.check.packed(name, of, values, fresh=fresh)

    def _fill(self, loaded: Program) -> None:
        """Put the numbers into the caches with which a filled case begins."""
        types = caches_of(self.module)
        for slot, memory in zip(self.manifest.caches, loaded.caches, strict=True):
            if self.case.filled:
                kept = self.check.checker.inputs.cache(slot.name, types[slot.name], self.case)
                memory[:] = pack_cache(kept)


KV_BLOCK = 64


def pack_cache(kept: Kept) -> NDArray[np.uint8]:
    """A cache as the runtime keeps it: keys [heads, capacity, head width] are transposed by blocks."""
    if not isinstance(kept, tuple):
        return kept.reshape(-1).view(np.uint8)
    keys, values = kept
    heads, capacity, head_dim = keys.shape
    blocks = keys.reshape(heads, capacity // KV_BLOCK, KV_BLOCK, head_dim).swapaxes(2, 3)
    parts = (np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in (blocks, values))
    return np.concatenate(list(parts))


def unpack_cache(slot: CacheSlot, memory: NDArray[np.uint8]) -> Kept:
    """A cache in memory."""
    numbers = memory[: slot.n_bytes].view(np.float16 if slot.dtype == "f16" else np.float32)
    if slot.kind == "state":
        return numbers.reshape(slot.shape).copy()
    heads, capacity, head_dim = slot.shape
    half = len(numbers) // 2
    blocks = numbers[:half].reshape(heads, capacity // KV_BLOCK, head_dim, KV_BLOCK)
    return blocks.swapaxes(2, 3).reshape(slot.shape).copy(), numbers[half:].reshape(slot.shape).copy()


def is_program(module: ModuleOp) -> bool:
    """Whether a module is scheduled to its end: its entries stand in buffers that have their places."""
    functions = [op for op in module.ops if isinstance(op, func.FuncOp) and "ck.entry" in op.attributes]
    in_buffers = all(is_buffer(function.body.block.args[0].type) for function in functions)
    return bool(functions) and in_buffers and not any(isinstance(op, AllocOp) for op in module.walk())


def check_model(file: ModelFile, options: Options, progress: Callable[[str], None]) -> None:
    """Check every pass and both backends on the program of a model. Raises CheckFailure."""
    source = open_model(file)
    built = model_graph(source, plan_of(source, options), options)
    check_road(built.module, built.constants, progress)


def check_training(
    template: Template, rows: int, options: Mapping[str, Any], progress: Callable[[str], None]
) -> None:
    """Check every pass and both backends on the program that trains `template`. Raises CheckFailure."""
    built = training_graph(template, rows, options)
    check_road(built.module, built.constants, progress)


def check_road(
    module: ModuleOp,
    given: Mapping[str, NDArray[np.float32]],
    progress: Callable[[str], None],
    backends: Sequence[str] = BACKENDS,
) -> None:
    """Take a module down the whole pipeline, every pass checked, then the compiled program.

    `progress` gets a line for each pass and program. Raises CheckFailure; `module` is left at the end of it.
    """
    check = CompiledCheck(module, given)
    progress(f"check graph: {len(entries(module))} entries executed")
    stages = TRAINING_STAGES if "ck.training" in module.attributes else STAGES
    for kind in (kind for stage in stages for kind in stage.passes):
        lines = run_checked(check.checker, kind, module, progress)
        progress(f"check {kind.name}: {', '.join(map(str, lines))}")
    try:
        for name, line in check.compiled(module, backends):
            progress(f"check {name}: {line}")
    except CheckFailure as failure:
        keep_in_cache(failure, None, progress)
        raise
    except PassCrash as crash:
        crash.keep(cache_root() / "reproducers")
        raise
