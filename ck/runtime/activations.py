"""What enters the matrices of a model's blocks: a program like any other, whose `@prefill` returns more.

    @prefill(tokens [T], n, pos) -> hidden [T, D], entering0 [T, K], entering1 [T, K], ...

Matrices that share their input, as those of queries, keys and values do, share a result. There is no @decode
and no @head.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.ir import SSAValue

from ck.backend.backends import Backend
from ck.frontend.model_file import ModelFile
from ck.ir.evaluate import find_function
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.weight import WeightOp
from ck.runtime.building import find_or_build, wanted_backend
from ck.runtime.compilation import compile_into
from ck.runtime.library import thread_count
from ck.runtime.options import Options
from ck.runtime.program import Program
from ck.runtime.store import StoredProgram
from ck.runtime.weights import Weights

_ENTRY = "prefill"
_RECORD = "entering"
# Rows a step: results lie in memory side by side.
_STEP = 128


class Activations(Program):
    """The program of a model. `entering` says which matrices each result enters."""

    def __init__(self, file: ModelFile, program: StoredProgram, threads: int | None) -> None:
        n_threads = thread_count(threads)
        self._weights = Weights(file, program.manifest.weights, program.constants, n_threads)
        file.drop_header_pages()
        super().__init__(program.compiled, program.manifest, self._weights.pointers, n_threads)
        self.entering: Mapping[str, list[str]] = program.record[_RECORD]
        shapes = {slot.name: slot.shape for slot in program.manifest.entries[_ENTRY]}
        self._tokens = np.zeros(shapes["tokens"], np.int32)
        names = ("hidden", *self.entering)
        buffers = {name: np.zeros(shapes[name], np.float32) for name in names}
        # Several rows a token, those of heads, lie side by side.
        self._results = {name: buffer.reshape(len(self._tokens), -1) for name, buffer in buffers.items()}
        self.bind({"tokens": self._tokens, **buffers})

    def read(self, ids: NDArray[np.int32]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """The rows [n, K] of each result, by its name, for some of `ids` at a time, from an empty cache.

        They are valid until the next are asked for. `ids` are of the vocabulary and fit the context.
        """
        for first in range(0, len(ids), _STEP):
            part = ids[first : first + _STEP]
            self._tokens[: len(part)] = part
            self.run(_ENTRY, len(part), first)
            yield {name: self._results[name][: len(part)] for name in self.entering}


def compile_activations(
    file: ModelFile,
    n_ctx: int,
    *,
    kv: str = "f16",
    dtype: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Activations:
    """The program for sequences of `n_ctx` tokens, from the cache where it has been made before.

    Raises what `ck.compile` raises.
    """
    options = Options(n_ctx, kv, dtype, _STEP)
    fill = partial(_fill, file, options, progress)
    program = find_or_build((_RECORD, file.header_digest(), options), fill, wanted_backend(backend), False)
    return Activations(file, program, threads)


def _fill(
    file: ModelFile,
    options: Options,
    progress: Callable[[str], None],
    directory: Path,
    made_by: Backend,
) -> tuple[object, ...]:
    text = compile_into(directory, file, options, made_by, progress, _return_inputs)
    return text, None if file.path is None else os.path.realpath(file.path)


def _return_inputs(module: ModuleOp) -> Mapping[str, Any]:
    """Let @prefill return what enters the matrices of blocks, and be the only function."""
    prefill = find_function(module, _ENTRY)
    for function in [op for op in module.ops if op is not prefill]:
        function.detach()
        function.erase()
    inputs: dict[SSAValue, list[str]] = {}
    for op in prefill.body.block.ops:
        weight = op.w.owner if isinstance(op, LinearOp) else None
        if (
            isinstance(op, LinearOp)
            and isinstance(weight, WeightOp)
            and weight.symbol_name.startswith("blk.")
        ):
            inputs.setdefault(_viewed(op.x), []).append(weight.symbol_name)
    for number, value in enumerate(inputs):
        value.name_hint = f"{_RECORD}{number}"
    last = prefill.body.block.last_op
    assert isinstance(last, func.ReturnOp)
    returned = [*last.operands, *inputs]
    last.detach()
    last.erase()
    prefill.body.block.add_op(func.ReturnOp(*returned))
    arguments = [arg.type for arg in prefill.body.block.args]
    prefill.function_type = FunctionType.from_lists(arguments, [value.type for value in returned])
    return {_RECORD: {f"{_RECORD}{number}": names for number, names in enumerate(inputs.values())}}


def _viewed(value: SSAValue) -> SSAValue:
    """What `value` is a view of: only that has memory that can be returned."""
    while isinstance(value.owner, ReshapeOp):
        value = value.owner.x
    return value
