"""The GGUF container: a reader that checks every field before it acts on it, and copies nothing."""

from ck.frontend.gguf.metadata import Metadata
from ck.frontend.gguf.parts import GgufParts, part_names
from ck.frontend.gguf.reader import GgufFile, Outline, read_outline
from ck.frontend.gguf.tensors import GgufTensor

__all__ = ["GgufFile", "GgufParts", "GgufTensor", "Metadata", "Outline", "part_names", "read_outline"]
