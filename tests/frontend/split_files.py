"""Model files split into parts, as loose parts that a test can change before they are written."""

from pathlib import Path

from ck.frontend.gguf import part_names
from tests.frontend.raw_gguf import I32, U16, RawFile, u16, u32


def split(valid: RawFile, n_parts: int = 3, first_is_empty: bool = False) -> list[RawFile]:
    """The parts of a file, as llama.cpp's tool makes them: all keys in the first, tensors in order."""
    whole = valid.copy()
    sizes = [after.offset - at.offset for at, after in zip(whole.tensors, whole.tensors[1:], strict=False)]
    sizes.append(len(whole.data) - whole.tensors[-1].offset)
    owners = [n * n_parts // len(whole.tensors) for n in range(len(whole.tensors))]
    if first_is_empty:
        owners = [max(owner, 1) for owner in owners]
    parts = [RawFile() for _ in range(n_parts)]
    for tensor, n_bytes, owner in zip(whole.tensors, sizes, owners, strict=True):
        part, at = parts[owner], tensor.offset
        tensor.offset = len(part.data)
        part.tensors.append(tensor)
        part.data += whole.data[at : at + n_bytes]
    parts[0].pairs = whole.pairs
    for number, part in enumerate(parts):
        part.set("split.no", U16, u16(number))
        part.set("split.count", U16, u16(n_parts))
        part.set("split.tensors.count", I32, u32(len(whole.tensors)))
    return parts


def write(parts: list[RawFile], folder: Path, stem: str = "m") -> list[Path]:
    """Write parts under their names."""
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in part_names(f"{stem}-00001-of-{len(parts):05d}.gguf")]
    for part, path in zip(parts, paths, strict=True):
        path.write_bytes(part.pack())
    return paths
