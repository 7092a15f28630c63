"""A GGUF file with its matrices in other storage types, byte for byte as llama-quantize writes it.

Keys stay as they lie in the file, in their order; what the quantisation says of itself comes last. Tensors
are ordered by block and name. The data, and each tensor's, begins at a multiple of the file's alignment.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ck.dtypes import BY_NAME
from ck.errors import MalformedError, ResourceError, UnsupportedError, UsageError
from ck.files import size_text
from ck.frontend.gguf.reader import DEFAULT_ALIGNMENT
from ck.frontend.model import GgufModel
from ck.frontend.quantize import quantize_rows
from ck.frontend.quantize.importance import Importance
from ck.frontend.quantize.mixes import EMBEDDING, Choice, FileType, chooser_of, in_file_order
from ck.runtime.weights import dequantize
from ck.train.export.checks import check_place
from ck.train.export.gguf_bytes import header, number_value, offsets, padded, pairs, tensor_info, text_value
from ck.train.files import replacing
from ck.train.rundir import output_errors

Progress = Callable[[int, int], None]
_FILE_TYPE, _VERSION = "general.file_type", "general.quantization_version"
_SPLIT = ("split.no", "split.count", "split.tensors.count")
_QUANTIZATION_VERSION = 2
# Of a text in quantize.imatrix.*, as llama.cpp cuts it.
_TEXT_LIMIT_BYTES = 127
# Numbers that one thread quantises at a time, in whole rows.
_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor: stored as `now` in the one file, as `then` in the other, `weights` from the matrix."""

    name: str
    shape: tuple[int, ...]
    now: str
    then: str
    weights: NDArray[np.float32] | None

    @property
    def n_bytes(self) -> int:
        """Bytes in the file to write."""
        return BY_NAME[self.then].row_bytes(self.shape[-1]) * self.n_rows

    @property
    def n_rows(self) -> int:
        """Rows of `shape[-1]` numbers."""
        return int(np.prod(self.shape[:-1], dtype=np.int64))


@dataclass(frozen=True)
class Plan:
    """What a file will be: its header's bytes, and its tensors in their order; `sources` are read for it."""

    file: GgufModel
    of: FileType
    header: bytes
    tensors: tuple[PlannedTensor, ...]
    alignment: int
    sources: tuple[Path, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(padded(tensor.n_bytes, self.alignment) for tensor in self.tensors)


def plan_quantized(
    file: GgufModel,
    of: FileType,
    choice: Choice,
    importance: Importance | None = None,
    *,
    requantize: bool = False,
) -> Plan:
    """What `file` becomes as a file of type `of`.

    Raises UsageError when a tensor is quantised already and not `requantize`, or rows do not fit a type that
    was asked for, MalformedError when `importance` is of another model, and what the file's own checks raise.
    """
    hp = file.hyperparameters()
    n_blocks = file.metadata.integer(f"{hp.arch}.block_count")
    chooser = chooser_of(of, choice, file.tensors, n_blocks, hp.n_heads // hp.n_kv_heads)
    tensors = list[PlannedTensor]()
    for name in in_file_order(file.tensors):
        stored = file.tensors[name]
        now, then = stored.storage.name, chooser.storage(name, stored.shape, stored.storage.name)
        if now != then and stored.storage.quantized and not requantize:
            raise UsageError(
                f"{file.path.name}: {name} must be f32, f16 or bf16 to be quantised, found {now}; "
                "give --allow-requantize, which costs quality"
            )
        weights = None if importance is None or now == then else _weights(importance, name, stored.shape[-1])
        tensors.append(PlannedTensor(name, stored.shape, now, then, weights))
    key = "general.alignment"
    alignment = file.metadata.integer(key) if key in file.metadata else DEFAULT_ALIGNMENT
    made = _header(file, of, tensors, importance, alignment)
    sources = [part.path for part in file.parts]
    sources += [] if importance is None else [Path(importance.path)]
    return Plan(file, of, made, tuple(tensors), alignment, tuple(sources))


def _weights(importance: Importance, name: str, n_in: int) -> NDArray[np.float32] | None:
    found = importance.weights.get(name)
    if found is None or len(found) == n_in:
        return found
    if name == EMBEDDING:
        return None
    raise MalformedError(
        f"{importance.path}: {name} must have {n_in} columns, found {len(found)}; it is of another model"
    )


def _header(
    file: GgufModel,
    of: FileType,
    tensors: list[PlannedTensor],
    importance: Importance | None,
    alignment: int,
) -> bytes:
    said = {_VERSION: number_value(_QUANTIZATION_VERSION), _FILE_TYPE: number_value(of.number)}
    said |= {} if importance is None else _said_of(importance)
    left_out = {*said, *_SPLIT}
    kept = [file.metadata.stored(key) for key in file.metadata if key not in left_out]
    places = offsets((tensor.n_bytes for tensor in tensors), alignment)
    infos = [
        tensor_info(tensor.name, tensor.shape, tensor.then, offset)
        for tensor, offset in zip(tensors, places, strict=True)
    ]
    return header([*kept, *pairs(said)], infos, alignment)


def _said_of(importance: Importance) -> dict[str, bytes]:
    """What a file says of the importance matrix that it was made with."""
    said = {"quantize.imatrix.file": _cut_text(importance.path)}
    if importance.datasets:
        said["quantize.imatrix.dataset"] = _cut_text(importance.datasets[0])
    said["quantize.imatrix.entries_count"] = number_value(len(importance.weights))
    if importance.n_chunks > 0:
        said["quantize.imatrix.chunks_count"] = number_value(importance.n_chunks)
    return said


def _cut_text(value: str) -> bytes:
    # A character that the limit cuts through goes whole.
    return text_value(value.encode(errors="replace")[:_TEXT_LIMIT_BYTES].decode(errors="ignore"))


def _silent(done: int, total: int) -> None:
    pass


def write_quantized(
    plan: Plan, path: Path, *, threads: int = 1, force: bool = False, progress: Progress = _silent
) -> None:
    """Write the file that `plan` describes; `progress` is told of bytes written and of all.

    What is at `path` is the whole file, or what was there before. Raises as `check_output` before anything is
    written, MalformedError for numbers that are not finite, UnsupportedError for some that a type cannot
    hold, ResourceError, MachineError.
    """
    check_output(plan, path, force=force)
    with output_errors(path), replacing(path) as file, ThreadPoolExecutor(threads) as pool:
        file.write(plan.header)
        for tensor in plan.tensors:
            for part in _parts(plan.file, tensor, pool, threads):
                file.write(part.data)
                progress(file.tell(), plan.n_bytes)
            file.write(bytes(-file.tell() % plan.alignment))


def check_output(plan: Plan, path: Path, *, force: bool = False) -> None:
    """Raise unless the file that `plan` describes may be written at `path` and has room there.

    UsageError and MachineError as `check_place`, ConflictError when there is a file and not `force`,
    ResourceError when the disk is too small.
    """
    check_place(path, force=force, sources=plan.sources)
    free = shutil.disk_usage(path.parent).free
    if free < plan.n_bytes:
        raise ResourceError(
            f"{path}: needs {size_text(plan.n_bytes)} free on its disk, found {size_text(free)}; "
            "free some, or choose another place"
        )


def _parts(
    file: GgufModel, tensor: PlannedTensor, pool: ThreadPoolExecutor, threads: int
) -> Iterator[NDArray[np.uint8]]:
    """The tensor's bytes in order, a few pieces at a time."""
    if tensor.now == tensor.then:
        yield file.raw(tensor.name)
        return
    step = max(1, _AT_A_TIME // tensor.shape[-1])

    def convert(first: int) -> NDArray[np.uint8]:
        return _converted(file, tensor, first, min(step, tensor.n_rows - first))

    starts = range(0, tensor.n_rows, step)
    for first in range(0, len(starts), threads):
        yield from pool.map(convert, starts[first : first + threads])


def _converted(file: GgufModel, tensor: PlannedTensor, first: int, count: int) -> NDArray[np.uint8]:
    """Rows [first, first + count) as they are to be stored."""
    now, n_in = BY_NAME[tensor.now], tensor.shape[-1]
    row_bytes = now.row_bytes(n_in)
    values = np.empty((count, n_in), np.float32)
    dequantize(tensor.now, file.raw(tensor.name)[first * row_bytes : (first + count) * row_bytes], values)
    if not np.isfinite(values).all():
        raise MalformedError(f"{tensor.name}: must hold finite numbers only, found others")
    try:
        return quantize_rows(values, BY_NAME[tensor.then], tensor.weights)
    except UnsupportedError as error:
        raise UnsupportedError(f"{tensor.name}: {error}") from None
