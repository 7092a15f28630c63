"""Parse IR, compile its C or its LLVM IR and load it: what tests of the backends share."""

import ctypes
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects import arith, builtin, func, math, memref, scf, vector
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from ck.backend.llvm.build import build_object
from ck.backend.llvm.load import LoadedObject
from ck.passes.expand_math import ExpandMathPass

SOURCES = sorted((Path(__file__).parents[2] / "ck" / "backend").rglob("*.py"))
FLAGS = {"native": "-march=native", "avx2": "-mavx2", "plain": ""}
FEATURES = {"native": None, "avx2": "+avx2", "plain": ""}
_EXACT = (
    "-O3 -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra -Werror -shared -fPIC"
)


def context() -> Context:
    """A context with the dialects of generated functions."""
    ctx = Context()
    for dialect in (
        *(builtin.Builtin, func.Func, scf.Scf, memref.MemRef),
        *(arith.Arith, math.Math, vector.Vector),
    ):
        ctx.load_dialect(dialect)
    return ctx


def parse(text: str) -> ModuleOp:
    """A verified module."""
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def expand(module: ModuleOp) -> ModuleOp:
    """The module after ck-expand-math, verified."""
    ExpandMathPass().apply(context(), module)
    module.verify()
    return module


def compile_c(text: str, folder: Path, machine: str = "native") -> ctypes.CDLL:
    """`text` as a shared library for one of `FLAGS`, without a warning; skips where this machine cannot run
    it."""
    _skip_without(machine)
    source, target = folder / "kernels.c", folder / "kernels.so"
    source.write_text(text)
    command = ["cc", *_EXACT.split(), *FLAGS[machine].split(), str(source), "-o", str(target), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))


class LlvmLibrary:
    """The functions of an object file, called as those of a ctypes.CDLL are."""

    def __init__(self, path: Path) -> None:
        self._object = LoadedObject(path)

    def __getattr__(self, name: str) -> Callable[..., None]:
        address = self._object.address(name)
        return lambda *given: ctypes.CFUNCTYPE(None, *map(type, given))(address)(*given)


def compile_llvm(text: str, folder: Path, machine: str = "native") -> LlvmLibrary:
    """The same for LLVM IR, of `FEATURES`."""
    _skip_without(machine)
    source, target = folder / "kernels.ll", folder / "kernels.o"
    source.write_text(text)
    build_object(source, target, FEATURES[machine])
    return LlvmLibrary(target)


def _skip_without(machine: str) -> None:
    if machine != "native" and platform.machine() != "x86_64":
        pytest.skip(f"{machine} is an x86-64 machine")
    if machine == "avx2" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine has no AVX2")


def assert_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits; any NaN equals any NaN."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])
