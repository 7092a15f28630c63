"""The struct through which runtime and program speak: C for the program, ctypes for the runtime, one hash.

Fields: the pool, the number of threads, arena, weights and caches, then every entry's arguments by name.
"""

import ctypes
import hashlib
from typing import Any

from ck.ir.rt.slots import Argument, Manifest

_CONTEXT_HEAD = (
    "    ck_pool* pool;",
    "    int32_t n_threads;",
    "    uint8_t* arena;",
    "    const void* const* weights;",
    "    void* const* caches;",
)


def context_struct(manifest: Manifest) -> str:
    """The C struct through which the runtime and the program speak."""
    fields = [f"    {field(argument)};" for argument in manifest.fields()]
    return "\n".join(["typedef struct ck_context {", *_CONTEXT_HEAD, *fields, "} ck_context;"])


def context_hash(manifest: Manifest) -> str:
    """16 hex digits that change whenever the context's layout does."""
    return hashlib.sha256(context_struct(manifest).encode()).hexdigest()[:16]


def field(argument: Argument) -> str:
    """The C declaration of an argument."""
    if argument.kind == "index":
        return f"int64_t {argument.name}"
    return f"const int32_t* {argument.name}" if argument.kind == "i32" else f"float* {argument.name}"


def context_type(manifest: Manifest) -> type[ctypes.Structure]:
    """The same struct for ctypes."""
    head: list[tuple[str, Any]] = [
        ("pool", ctypes.c_void_p),
        ("n_threads", ctypes.c_int32),
        ("arena", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("caches", ctypes.c_void_p),
    ]
    kinds = {"index": ctypes.c_int64, "i32": ctypes.c_void_p, "f32": ctypes.c_void_p}
    tail = [(argument.name, kinds[argument.kind]) for argument in manifest.fields()]
    return type("Context", (ctypes.Structure,), {"_fields_": [*head, *tail]})
