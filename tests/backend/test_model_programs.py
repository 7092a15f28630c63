"""The demo models' programs: any stored stage gives the same text, generated rows the same bits."""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from xdsl.dialects.builtin import IndexType, MemRefType, ModuleOp
from xdsl.dialects.func import FuncOp

from ck.backend.backends import BACKENDS, backend
from ck.backend.c.text import emit_functions
from ck.backend.llvm.text import emit_functions as emit_llvm
from ck.cli import opt
from ck.frontend.graph import Plan, build_graph, weight_type
from ck.frontend.model import open_model
from ck.ir.dialects import context
from ck.ir.rt.evaluate_loops import run_function
from ck.passes.pipeline import ORDER, run_stages
from tests.backend.compile import assert_bits, compile_c, compile_llvm
from tests.models import MODELS

ROWS, BEGIN, END = 7, 1, 6


@cache
def stages(path: Path) -> tuple[Mapping[str, str], ModuleOp]:
    """The text of each stage of the model at `path`, and the scheduled module."""
    source = open_model(path)
    storage = {
        name: weight_type(tensor.shape, tensor.storage.name) for name, tensor in source.file.tensors.items()
    }
    module = build_graph(source.hp, source.architecture, storage, Plan(16, 64, "f16")).module
    return {stage: str(module) for stage in run_stages(context(), module)}, module


@pytest.mark.parametrize("language", BACKENDS)
@pytest.mark.parametrize("model", MODELS)
def test_every_stored_stage_gives_the_same_text(
    model: str, language: str, cut: Callable[..., Path], tmp_path: Path
) -> None:
    texts, scheduled = stages(cut(model))
    expected = backend(language).emit(scheduled)
    for stage, text in texts.items():
        stored, made = tmp_path / f"{stage}.mlir", tmp_path / f"{stage}.txt"
        stored.write_text(text)
        assert opt.run([str(stored), "-t", language, "-o", str(made)]) == 0
        assert made.read_text() == expected, f"{stage}: another text than in one go"


@pytest.mark.parametrize("model", MODELS)
def test_no_pass_changes_what_a_model_computes(
    model: str, cut: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = tmp_path / "graph.mlir"
    graph.write_text(stages(cut(model, n_vocab=1000))[0]["graph"])
    assert opt.run([str(graph), "--check", "-p", ",".join(kind.name for kind in ORDER)]) == 0
    lines = capsys.readouterr().err.splitlines()
    # Prefill, decode and head after every pass, and in both compiled programs.
    assert len(lines) == 3 * (len(ORDER) + len(BACKENDS))
    assert all(" differs by " in line for line in lines)


def row_functions(module: ModuleOp) -> list[FuncOp]:
    """The generated functions: those over rows [begin, end)."""
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    return [f for f in functions if f.body.blocks and f.body.block.args[-1].name_hint == "end"]


def arguments(function: FuncOp) -> list[np.ndarray | int]:
    """Random buffers, ROWS rows where the number is open; begin and end."""
    rng = np.random.default_rng(len(function.sym_name.data))
    made: list[np.ndarray | int] = []
    for type in function.function_type.inputs.data[:-2]:
        if isinstance(type, IndexType):
            made.append(1000)
            continue
        assert isinstance(type, MemRefType)
        shape = [ROWS if extent < 0 else extent for extent in type.get_shape()]
        made.append(rng.standard_normal(shape, dtype=np.float32))
    return [*made, BEGIN, END]


def copies(values: list[np.ndarray | int]) -> list[np.ndarray | int]:
    return [value.copy() if isinstance(value, np.ndarray) else value for value in values]


def as_c(values: list[np.ndarray | int]) -> list[ctypes.c_void_p | ctypes.c_int64]:
    return [ctypes.c_int64(v) if isinstance(v, int) else ctypes.c_void_p(v.ctypes.data) for v in values]


@pytest.mark.parametrize("machine", ["native", "plain"])
@pytest.mark.parametrize("model", MODELS)
def test_generated_rows_equal_numpy_in_both_languages(
    model: str, machine: str, cut: Callable[..., Path], tmp_path: Path
) -> None:
    module = stages(cut(model))[1]
    functions = row_functions(module)
    assert len(functions) >= 2
    library = compile_c(emit_functions(functions, linkage=""), tmp_path, machine)
    of_llvm = compile_llvm(emit_llvm(functions, linkage=""), tmp_path, machine)
    for function in functions:
        name = function.sym_name.data
        by_c, by_llvm, by_numpy = (copies(arguments(function)) for _ in range(3))
        run_function(function, by_numpy)
        getattr(library, name)(*as_c(by_c))
        getattr(of_llvm, name)(*as_c(by_llvm))
        for got in (by_c, by_llvm):
            for one, other in zip(got, by_numpy, strict=True):
                if isinstance(other, np.ndarray):
                    assert_bits(one, other)
