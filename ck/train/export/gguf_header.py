"""The header of a GGUF file: keys, values and the list of tensors."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from ck.dtypes import BY_NAME
from ck.errors import MalformedError


def write_header(
    path: str,
    arch: str,
    keys: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, str],
) -> None:
    """Everything but the tensors' data, which follows in the order of `shapes`.

    The data is not the package's to write: numpy's `tofile` does not say why it failed.
    """
    writer = GGUFWriter(path, arch)
    for key, value in keys.items():
        kind, item = _value_types(key, value)
        writer.add_key_value(key, value.tolist() if isinstance(value, np.ndarray) else value, kind, item)
    for name, shape in shapes.items():
        of = BY_NAME[stored[name]]
        n_bytes = of.row_bytes(shape[-1]) * int(np.prod(shape[:-1], dtype=np.int64))
        ggml_type = GGMLQuantizationType(of.ggml_id)
        writer.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=ggml_type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


# By numpy's names of the element types.
_ARRAY_TYPES = {
    "int8": GGUFValueType.INT8, "uint8": GGUFValueType.UINT8, "int16": GGUFValueType.INT16,
    "uint16": GGUFValueType.UINT16, "int32": GGUFValueType.INT32, "uint32": GGUFValueType.UINT32,
    "int64": GGUFValueType.INT64, "uint64": GGUFValueType.UINT64, "float32": GGUFValueType.FLOAT32,
    "float64": GGUFValueType.FLOAT64, "bool": GGUFValueType.BOOL,
}  # fmt: skip


def _value_types(key: str, value: Any) -> tuple[GGUFValueType, GGUFValueType | None]:
    """The type of a value in the file, and of its elements: ids u32, floats f32, lists of ids i32."""
    if isinstance(value, np.ndarray):
        return GGUFValueType.ARRAY, _ARRAY_TYPES[cast(NDArray[Any], value).dtype.name]
    match value:
        case bool():
            return GGUFValueType.BOOL, None
        case int():
            return GGUFValueType.UINT32, None
        case float():
            return GGUFValueType.FLOAT32, None
        case str():
            return GGUFValueType.STRING, None
        case [bool(), *_]:
            return GGUFValueType.ARRAY, GGUFValueType.BOOL
        case [str(), *_]:
            return GGUFValueType.ARRAY, GGUFValueType.STRING
        case [int(), *_]:
            return GGUFValueType.ARRAY, GGUFValueType.INT32
        case [float(), *_]:
            return GGUFValueType.ARRAY, GGUFValueType.FLOAT32
        case _:
            found = type(value).__name__
            raise MalformedError(f"key {key}: must be a scalar or a list that is not empty, found {found}")
