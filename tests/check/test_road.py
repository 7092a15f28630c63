"""The whole road of an inference and of a training program is compared after every pass, and compiled."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize
from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, ModuleOp, StringAttr, f32

import ck
from ck.backend.backends import BACKENDS, LlvmBackend
from ck.cli.main import main
from ck.dtypes import BY_NAME
from ck.errors import MachineError
from ck.frontend.architectures import ARCHITECTURES, find_architecture
from ck.frontend.graph import Plan, build_graph, weight_type
from ck.ir.check.cases import HEAVY, Call, cases_of, prime_below
from ck.ir.check.checker import Checker
from ck.ir.check.failure import CheckFailure
from ck.ir.check.inputs import Inputs, draw_weight
from ck.ir.check.runs import Runner, entries
from ck.ir.check.tier import Tier
from ck.ir.dialects import context
from ck.ir.evaluate import find_function
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.rt.ops import CallOp, LaunchOp
from ck.ir.rt.slots import CacheSlot
from ck.ir.types import KvType, StateType, WeightType, tensor
from ck.passes.assign_layouts import ACTIVATIONS_ATTRIBUTE, AssignLayoutsPass
from ck.passes.bufferize import BufferizePass
from ck.passes.fuse_rows import FuseRowsPass
from ck.passes.pipeline import ORDER, STAGES, TRAINING_STAGES, run_pass
from ck.runtime.check import CompiledCheck, check_road, is_program, pack_cache, unpack_cache
from ck.runtime.check_weights import StoredWeights
from tests.check.test_wrong_passes import ROWS
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import small
from tests.graphs.fixed import random_graph
from tests.ops.case import pack_cache as packed_as_kernels_read
from tests.passes.programs import parse
from tests.passes.training import module_of, template

LINE = re.compile(r"@(\w+) (differs by \S+ of \S+|is new and does what it must)")


def road(module: ModuleOp, given: dict[str, np.ndarray]) -> list[str]:
    """What the check of a program says, line by line."""
    lines: list[str] = []
    check_road(module, given, lines.append)
    return lines


def inference() -> tuple[ModuleOp, dict[str, np.ndarray]]:
    return random_graph(0).module, {}


def training() -> tuple[ModuleOp, dict[str, np.ndarray]]:
    built = module_of(template(sorted(ARCHITECTURES)[0]), budget=0.5)
    return built.module, built.constants


def training_in_bf16() -> tuple[ModuleOp, dict[str, np.ndarray]]:
    built = module_of(template(sorted(ARCHITECTURES)[0]), budget=0.5, dtype="bf16")
    return built.module, built.constants


@pytest.mark.parametrize(
    ("make", "stages", "names"),
    [
        (training_in_bf16, TRAINING_STAGES, {"train_step", "eval", "grad_norm", "update"}),
        (inference, STAGES, {"prefill", "decode"}),
        (training, TRAINING_STAGES, {"train_step", "eval", "grad_norm", "update"}),
    ],
)
def test_every_entry_is_compared_after_every_pass(
    make: Callable[[], Any], stages: Any, names: set[str]
) -> None:
    lines = road(*make())
    kinds = [kind.name for stage in stages for kind in stage.passes]
    assert [line.split(":")[0] for line in lines[1 : len(kinds) + 1]] == [f"check {name}" for name in kinds]
    assert not [line for line in lines if "not compared" in line]
    assert {name for name, _ in LINE.findall(lines[len(kinds)])} == names
    compiled = [line.split(": ")[0].removeprefix("check ") for line in lines[len(kinds) + 1 :]]
    assert compiled == [name for name in BACKENDS for _ in names]


def test_what_a_weight_held_is_not_taken_for_what_was_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("ck.runtime.check_failure.SHRINKING", 0)
    right = BufferizePass.apply

    def lose_a_gradient(self: BufferizePass, context: Context, module: ModuleOp) -> None:
        right(self, context, module)
        calls = [op for op in find_function(module, "train_step").walk() if isinstance(op, CallOp)]
        calls[-1].detach()

    monkeypatch.setattr(BufferizePass, "apply", lose_a_gradient)
    with pytest.raises(CheckFailure, match="ck-bufferize changes what @train_step computes") as failure:
        road(*training())
    # The other gradients are added to as they were, in place.
    assert failure.value.value.startswith("@grad.")


@cache
def scheduled() -> str:
    """A small program at its end."""
    module = parse(ROWS)
    for kind in ORDER:
        run_pass(context(), module, kind)
    return str(module)


def compiled_lines(change: Callable[[ModuleOp], None] | None = None) -> list[str]:
    """What is said of a program that is changed between interpreter and compiler."""
    module = parse(scheduled())
    assert is_program(module)
    check = CompiledCheck(module)
    if change is not None:
        change(module)
    return [f"{name}: {line}" for name, line in check.compiled(module)]


def test_a_program_that_does_something_else_is_seen() -> None:
    def skip_residual(module: ModuleOp) -> None:
        call = next(op for op in module.walk() if isinstance(op, CallOp) and "add" in op.symbol_name)
        call.operands[3] = call.operands[1]

    with pytest.raises(CheckFailure) as caught:
        compiled_lines(skip_residual)
    failure = caught.value
    assert failure.pass_name == "c on 1 thread, against the interpreter"
    assert failure.value == "result 0"
    assert re.search(
        r"@f computes, case full: result 0 \[\d, \d+\] was \S+ and is \S+, an error of", str(failure)
    )


def test_a_backend_without_its_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def require(self: object) -> None:
        raise MachineError("C compiler cc is not on PATH")

    monkeypatch.setattr("ck.backend.backends.CBackend.require", require)
    lines = compiled_lines()
    assert "not compared: C compiler cc is not on PATH" in lines[0]
    assert lines[1].startswith("llvm: @f differs by ")


def test_two_backends_are_held_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: one bit less in what the second one prints is seen."""
    emit = LlvmBackend.emit

    def other(self: LlvmBackend, module: ModuleOp) -> str:
        changed = module.clone()
        call = next(op for op in changed.walk() if isinstance(op, LaunchOp) and op.symbol_name == "rms_norm")
        function = next(op for op in changed.ops if op.properties["sym_name"].data == call.symbol_name)
        for op in function.walk():
            if op.name == "arith.constant" and "e-05" in str(op):
                op.properties["value"] = FloatAttr(1.0000001e-05, f32)
        return emit(self, changed)

    monkeypatch.setattr(LlvmBackend, "emit", other)
    with pytest.raises(CheckFailure, match="llvm on 1 thread, against the first program"):
        compiled_lines()


def test_what_is_no_program_is_not_compiled() -> None:
    for kind in (None, *ORDER):
        module = parse(ROWS)
        for earlier in ORDER[: ORDER.index(kind) + 1] if kind else ():
            run_pass(context(), module, earlier)
        assert is_program(module) == (kind is not None and kind.name.startswith("rt-"))


@pytest.mark.parametrize("storage", list(BY_NAME))
def test_made_up_weights_are_what_a_file_stores(storage: str) -> None:
    """The numbers that interpreters take are those that the gguf package reads; their size keeps a row's."""
    of, stored = WeightType.of((48, 512), storage), StoredWeights()
    values = stored.draw("up", of)
    assert values.shape == (48, 512)
    assert abs(float(values.std()) * np.sqrt(512) - 1) < 0.15
    assert abs(float(values.mean())) * np.sqrt(512) < 0.15
    if of.row.quantized:
        blocks = stored._blocks["up"]
        np.testing.assert_array_equal(dequantize(blocks, GGMLQuantizationType(of.row.ggml_id)), values)
    assert len(stored.packed("up", of, values)) == of.row.matrix_packed_bytes(48, 512)


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_caches_are_packed_as_kernels_read_them(dtype: str) -> None:
    of = KvType.of(2, 128, 6, dtype)
    numbers = {"f16": np.float16, "f32": np.float32}[dtype]
    keys, values = np.random.default_rng(1).standard_normal((2, *of.get_shape())).astype(numbers)
    packed = pack_cache((keys, values))
    np.testing.assert_array_equal(packed, packed_as_kernels_read(keys, values))
    slot = CacheSlot("kv", "kv", of.get_shape(), dtype, of.n_bytes)
    for found, wanted in zip(unpack_cache(slot, packed), (keys, values), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_state_is_packed_as_it_is() -> None:
    of = StateType.of(3, 2, 5)
    state = np.random.default_rng(1).standard_normal(of.get_shape(), np.float32)
    packed = pack_cache(state)
    np.testing.assert_array_equal(packed, np.frombuffer(state.tobytes(), np.uint8))
    slot = CacheSlot("state", "state", of.get_shape(), "f32", of.n_bytes)
    np.testing.assert_array_equal(unpack_cache(slot, packed), state)


def test_every_form_gets_the_same_numbers() -> None:
    tensors, buffers = parse(ROWS), parse(scheduled())
    one, other = Inputs(tensors), Inputs(buffers)
    for case in cases_of(entries(tensors)["f"], tensors):
        for call in case.calls:
            given = [
                Runner(inputs).arguments(module, entries(module)["f"], call, case)
                for inputs, module in ((one, tensors), (other, buffers))
            ]
            np.testing.assert_array_equal(given[0][0], given[1][0])
            assert given[0][1] == given[1][1] == call.n
            assert np.isnan(given[0][0][call.n :]).all()
            assert np.isnan(given[1][2]).all()
        np.testing.assert_array_equal(one.weight("up", case), other.weight("up", case))
    assert not np.array_equal(draw_weight("up", tensor(8)), draw_weight("down", tensor(8)))


def test_special_rows_hold_what_is_odd() -> None:
    module = parse(ROWS)
    case = next(case for case in cases_of(entries(module)["f"], module) if case.special)
    rows, n = Runner(Inputs(module)).arguments(module, entries(module)["f"], case.calls[0], case)
    assert n == 7
    assert (rows[0] == 0).all()
    assert np.signbit(rows[0]).any()
    assert (np.abs(rows[1]) < np.finfo(np.float32).tiny).all()
    assert (rows[1] != 0).all()
    assert len(set(rows[2])) == 1
    assert (rows[3] % 1 == 0.5).all()
    assert np.abs(rows[4]).max() > 1e19
    assert np.isinf(rows[5]).sum() == 1
    assert np.isnan(rows[6]).sum() == 1


def test_cases_are_ragged_go_on_and_stay_small() -> None:
    module = random_graph(0).module
    by_name = {case.name: case for case in cases_of(entries(module)["prefill"], module)}
    assert list(by_name) == ["full", "ragged", "special", "one", "late"]
    first, second = by_name["ragged"].calls
    assert (first.pos, second.pos) == (0, first.n)
    assert first.n == prime_below(by_name["full"].calls[0].n)
    assert by_name["late"].calls[0].pos > second.pos
    wide = parse(ROWS.replace("7x96", f"{HEAVY // (2 * 96 * 96) + 1}x96"))
    names = [case.name for case in cases_of(entries(wide)["f"], wide)]
    assert names == ["ragged", "special"]
    assert cases_of(entries(wide)["f"], wide)[0].calls == (Call(7), Call(5, 7))


def test_what_cannot_be_run_is_not_called_equal() -> None:
    text = """
    func.func @f(%x: memref<4x16xf32>, %n: index) {
      rt.launch @g outs(%x : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
      func.return
    }"""
    module = parse(text)
    checker = Checker(module)
    run_pass(context(), module, ORDER[-2])
    (line,) = checker.after(ORDER[-2], module, Tier(1e-9, "test"))
    assert str(line) == "@f not compared: the module has no function @g"
    assert not line.compared


def test_ck_compile_check(cut: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    lines: list[str] = []
    ck.compile(cut("smollm2-135m", 1, 512), context_len=64, chunk=4, check=True, progress=lines.append)
    checks = [line for line in lines if line.startswith("check ")]
    assert len(checks) == 1 + sum(len(stage.passes) for stage in STAGES) + 3 * len(BACKENDS)
    assert not [line for line in checks if "not compared" in line]


@pytest.mark.parametrize(("kv", "bound"), [("f16", "of 1e-05"), ("f32", "of 1e-09")])
def test_a_last_bit_may_change_which_f16_a_key_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kv: str, bound: str
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    lines: list[str] = []
    model = write_tiny(tmp_path / "tiny.gguf")
    ck.compile(model, context_len=64, kv=kv, check=True, progress=lines.append)
    (line,) = [line for line in lines if line.startswith("check ck-bufferize")]
    assert line.count(bound) == 3


def test_rows_of_8_bits_are_not_held_to_what_15_keep() -> None:
    """A norm of what a recurrent state recalls, which nearly cancels in some rows, magnifies the rounding."""
    hp = small("qwen35")
    architecture = find_architecture(hp.arch)
    assert architecture is not None
    storage = {
        name: weight_type(of, "q8_0" if len(of) == 2 and of[1] % 32 == 0 else "f32")
        for name, of in architecture.tensor_shapes(hp).items()
    }
    module = build_graph(hp, architecture, storage, Plan(33, 64, "f16")).module
    module.attributes[ACTIVATIONS_ATTRIBUTE] = StringAttr("q8")
    checker = Checker(module)
    run_pass(context(), module, AssignLayoutsPass)
    (line, *_) = checker.after(AssignLayoutsPass, module)
    assert line.entry == "prefill"
    assert 1e-2 < line.error < 2e-1


def test_ck_compile_check_names_the_pass(
    cut: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path))
    right = FuseRowsPass.apply

    def wrong(self: FuseRowsPass, ctx: Any, op: ModuleOp) -> None:
        right(self, ctx, op)
        norm = next(inner for inner in op.walk() if isinstance(inner, RmsNormOp))
        norm.properties["eps"] = FloatAttr(2.0, f32)

    monkeypatch.setattr(FuseRowsPass, "apply", wrong)
    path = cut("smollm2-135m", 1, 512)
    assert main(["compile", str(path), "-c", "64", "-b", "4", "--check"]) == 5
    shown = capsys.readouterr()
    assert "check ck-fuse-linear: @prefill differs by 0.0e+00 of 0e+00" in shown.err
    assert "ck-fuse-rows changes what @prefill computes" in shown.err
    assert shown.out == ""
