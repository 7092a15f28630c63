"""A module that runs: by the interpreter of tensors, by that of buffers, or compiled. All take the same.

run(entry, given)    inputs by name -> results in order, all rows of them
run.weights          f32 or f64 arrays by name, those that training writes among them
run.caches           keys and values [kv heads, capacity, head width], or recurrent states, by name
"""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from ck.backend.backends import backend
from ck.backend.context import context_type
from ck.ir.dialects import context
from ck.ir.evaluate import Environment, Kept, evaluate, find_function
from ck.ir.rt.evaluate import evaluate_rt
from ck.ir.rt.manifest import manifest_of
from ck.ir.types import CacheType, WeightType, keeps_rows, shape
from ck.passes.pipeline import run_stages
from ck.runtime.library import library
from tests.graphs.judge import Outcome
from tests.graphs.values import copied, unpacked
from tests.ops.case import Operand, pack_cache
from tests.ops.kernel_calls import pack

Arrays = dict[str, np.ndarray]
Observer = Callable[[SSAValue, Operation, Any], None]
CANARY = 64


def stages(module: ModuleOp, wanted: tuple[str, ...]) -> dict[str, ModuleOp]:
    """`module`, which is used up, at some stages of the pipeline, verified."""
    found: dict[str, ModuleOp] = {}
    for stage in run_stages(context(), module):
        module.verify()
        if stage in wanted:
            found[stage] = module.clone()
    return found


class Interpreted:
    """A module of any stage under the interpreter of its stage, on copies of weights and caches."""

    def __init__(
        self, module: ModuleOp, weights: Outcome, caches: Mapping[str, Kept], observe: Observer | None = None
    ) -> None:
        self.module = module
        self.weights = {name: value.copy() for name, value in weights.items()}
        self.caches = {name: copied(kept) for name, kept in caches.items()}
        self.environment = Environment(self.weights, self.caches, observe)

    def __call__(self, entry: str, given: Mapping[str, Any]) -> list[np.ndarray]:
        block = find_function(self.module, entry).body.block
        names = [str(arg.name_hint) for arg in block.args]
        if isinstance(block.args[0].type, TensorType):
            # Ids are looked up before the rows that are not live are forgotten.
            known = {**given, "tokens": np.maximum(given["tokens"], 0)} if "tokens" in given else given
            with np.errstate(all="ignore"):
                found = evaluate(self.module, entry, [known[name] for name in names], self.environment)
            return list(found)
        outs = {
            name: np.full(shape(arg.type), np.nan, np.float32)
            for name, arg in zip(names, block.args, strict=True)
            if name not in given
        }
        with np.errstate(all="ignore"):
            evaluate_rt(self.module, entry, [{**given, **outs}[name] for name in names], self.environment)
        return list(outs.values())


class Built:
    """A scheduled module compiled by one backend and loaded."""

    def __init__(self, module: ModuleOp, name: str, folder: Path) -> None:
        self.manifest = manifest_of(module)
        made = backend(name)
        source, target = folder / made.source_name, folder / made.object_name
        source.write_text(made.emit(module))
        made.build(source, target)
        library()
        self.program = made.load(target)

    def entry(self, name: str) -> Any:
        """The function that runs an entry."""
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.program.address(f"ck_{name}"))


class Compiled:
    """A built program with memory of its own, on a number of threads.

    Memory begins as NaN, so what reads a byte that nobody wrote shows it; behind every piece of it lies a
    canary.
    """

    def __init__(
        self,
        built: Built,
        threads: int,
        types: Mapping[str, Attribute],
        weights: Mapping[str, Operand],
        caches: Mapping[str, Kept],
    ) -> None:
        self.built, self.manifest = built, built.manifest
        self._guarded: list[np.ndarray] = []
        stored = {slot.name: _stored(types[slot.name], weights[slot.name]) for slot in self.manifest.weights}
        self._memory = {name: self._placed(value) for name, value in stored.items()}
        self._types = {name: of for name, of in types.items() if isinstance(of, CacheType)}
        self._caches = {s.name: self._placed(_in_memory(caches[s.name])) for s in self.manifest.caches}
        self._arena = self._placed(np.full(max(64, self.manifest.arena_bytes), 0xFF, np.uint8))
        self._pointers = [_pointers(self._memory), _pointers(self._caches)]
        self.context = context_type(self.manifest)()
        self.context.pool, self.context.n_threads = pool(threads), threads
        self.context.arena = self._arena.ctypes.data
        self.context.weights, self.context.caches = map(ctypes.addressof, self._pointers)

    def _placed(self, values: np.ndarray) -> np.ndarray:
        """`values` on a cache line of their own, guarded."""
        memory = np.full(values.nbytes + 2 * CANARY, 0xFF, np.uint8)
        skip = -memory.ctypes.data % CANARY
        place = memory[skip : skip + values.nbytes]
        place[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._guarded.append(memory[skip + values.nbytes :])
        return place.view(values.dtype).reshape(values.shape)

    def __call__(self, entry: str, given: Mapping[str, Any]) -> list[np.ndarray]:
        outs: list[np.ndarray] = []
        held: list[np.ndarray] = []
        for argument in self.manifest.entries[entry]:
            value = given.get(argument.name)
            if value is None:
                outs.append(self._placed(np.full(argument.shape, np.nan, np.float32)))
                value = outs[-1]
            if isinstance(value, np.ndarray):
                held.append(np.ascontiguousarray(value))
                value = held[-1].ctypes.data
            setattr(self.context, argument.name, value)
        self.built.entry(entry)(ctypes.addressof(self.context))
        assert all((guard == 0xFF).all() for guard in self._guarded), f"@{entry} writes past an end"
        return outs

    @property
    def weights(self) -> Arrays:
        return self._memory

    @property
    def caches(self) -> dict[str, Kept]:
        return {name: unpacked(self._types[name], memory) for name, memory in self._caches.items()}


def _stored(of: Attribute, operand: Operand) -> np.ndarray:
    """A weight as a program reads it."""
    if not isinstance(of, WeightType) or keeps_rows(of):
        return operand.stored
    return pack(WeightType.of(of.get_shape(), of.storage.data, "r16"), operand.stored)


def _in_memory(kept: Kept) -> np.ndarray:
    """A cache as a program finds it."""
    return kept if isinstance(kept, np.ndarray) else pack_cache(*kept)


def _pointers(arrays: Mapping[str, np.ndarray]) -> "ctypes.Array[Any]":
    addresses = [array.ctypes.data for array in arrays.values()]
    return (ctypes.c_void_p * max(1, len(addresses)))(*addresses)


@cache
def pool(threads: int) -> int:
    """Threads that all programs of this process share."""
    return library().ck_pool_create(threads)
