"""The struct through which runtime and program speak: for C, for LLVM, for ctypes, and one hash of it.

Fields: the pool, the number of threads, arena, weights and caches, then every entry's arguments by name.
"""

import ctypes
import hashlib
from dataclasses import dataclass
from typing import Any

from ck.ir.rt.slots import Argument, Manifest

_CTYPES = {"ptr": ctypes.c_void_p, "i32": ctypes.c_int32, "i64": ctypes.c_int64}


@dataclass(frozen=True)
class Field:
    """A field of the struct: its declaration in C, and its type in LLVM, ptr, i32 or i64."""

    name: str
    c: str
    llvm: str


_HEAD = (
    Field("pool", "ck_pool* pool", "ptr"),
    Field("n_threads", "int32_t n_threads", "i32"),
    Field("arena", "uint8_t* arena", "ptr"),
    Field("weights", "const void* const* weights", "ptr"),
    Field("caches", "void* const* caches", "ptr"),
)


def context_fields(manifest: Manifest) -> list[Field]:
    """The struct's fields in order."""
    tail = manifest.fields()
    return [*_HEAD, *(Field(arg.name, field(arg), "i64" if arg.kind == "index" else "ptr") for arg in tail)]


def context_struct(manifest: Manifest) -> str:
    """The struct in C."""
    fields = [f"    {field.c};" for field in context_fields(manifest)]
    return "\n".join(["typedef struct ck_context {", *fields, "} ck_context;"])


def context_hash(manifest: Manifest) -> str:
    """16 hex digits that change whenever the struct's layout does."""
    return hashlib.sha256(context_struct(manifest).encode()).hexdigest()[:16]


def field(argument: Argument) -> str:
    """The C declaration of an argument."""
    if argument.kind == "index":
        return f"int64_t {argument.name}"
    return f"const int32_t* {argument.name}" if argument.kind == "i32" else f"float* {argument.name}"


def context_type(manifest: Manifest) -> type[ctypes.Structure]:
    """The same struct for ctypes."""
    fields: list[tuple[str, Any]] = [(field.name, _CTYPES[field.llvm]) for field in context_fields(manifest)]
    return type("Context", (ctypes.Structure,), {"_fields_": fields})
