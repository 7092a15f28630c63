"""The judge sees what is wrong: bits, numbers, a plan, a kernel's operands, a gradient."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.types import tensor, trained
from tests.graphs.check_inference import Case
from tests.graphs.check_training import check_training
from tests.graphs.fixed import RandomGraph, random_graph
from tests.graphs.judge import Bound, Disagreement, assert_near, assert_same_bits
from tests.graphs.runs import Built, stages
from tests.graphs.small import graph, node, training
from tests.passes.programs import parse


def one(value: float) -> dict[str, np.ndarray]:
    return {"y": np.array([[1.0, value]], np.float32)}


@pytest.mark.parametrize(("got", "want"), [(0.0, -0.0), (1.0, np.nextafter(np.float32(1), 2)), (np.nan, 1.0)])
def test_other_bits_are_seen(got: float, want: float) -> None:
    with pytest.raises(Disagreement, match=r"y: bits are required; at \[0, 1\] c has .*, llvm .* \(1 of 2"):
        assert_same_bits("c", one(got), "llvm", one(want))


def test_not_a_number_is_one_value() -> None:
    other = one(np.nan)
    other["y"].view(np.uint32)[0, 1] |= 1
    assert_same_bits("c", one(np.nan), "llvm", other)


def test_a_number_that_is_far_off_is_seen() -> None:
    bound = Bound(1e-12, 1.0, {"y": 0.0})
    assert assert_near("c", one(2.0), "torch", one(2.000001), bound) < 1
    with pytest.raises(Disagreement, match="y: squared distance"):
        assert_near("c", one(2.0), "torch", one(2.0001), bound)
    with pytest.raises(Disagreement, match="y: numbers are required"):
        assert_near("c", one(np.inf), "torch", one(2.0), bound)
    assert assert_near("c", one(2.0), "torch", one(2.0001), Bound(1e-12, 1.0, {"y": 1e-6})) < 1


@pytest.fixture(scope="module")
def whole() -> RandomGraph:
    return random_graph(0)


def far(whole: RandomGraph, wrong: ModuleOp) -> None:
    """Hold a wrong scheduled program against the kernels, generously."""
    case = Case(whole.program)
    want = case.interpreted(stages(whole.program.module(), ("kernels",))["kernels"])
    with pytest.raises(Disagreement):
        assert_near("wrong", case.interpreted(wrong), "kernels", want, Bound(1e-4, 0, {}))


def test_a_wrong_plan_is_seen(whole: RandomGraph) -> None:
    """With all buffers in one place the numbers are others."""
    text = str(stages(whole.program.module(), ("scheduled",))["scheduled"])
    far(whole, parse(re.sub(r"rt.view %arena\[\d+ ", "rt.view %arena[0 ", text)))


def test_a_wrong_offset_is_seen(whole: RandomGraph) -> None:
    """Compiled too: memory is NaN where nobody wrote."""
    text = str(stages(whole.program.module(), ("scheduled",))["scheduled"])
    value, other = written_meanwhile(text.partition("@prefill(")[2].partition("func.func")[0].splitlines())
    (place,) = re.findall(rf"%{other} = rt.view %arena\[(\d+) ", text)[:1]
    wrong = re.sub(rf"(%{value} = rt.view %arena\[)\d+ ", rf"\g<1>{place} ", text, count=1)
    assert wrong != text
    far(whole, parse(wrong))


def written_meanwhile(lines: list[str]) -> tuple[str, str]:
    """A value of the arena, and another that is written before the last op that reads the first."""
    for value in re.findall(r"%(\w+) = rt.view %arena", "\n".join(lines)):
        _, written, *read = [at for at, line in enumerate(lines) if re.search(rf"%{value}\b", line)]
        others = re.findall(r"outs\(%(\w+)", "\n".join(lines[written + 1 : max(read, default=0)]))
        for other in others:
            if f"%{other} = rt.view %arena" in "\n".join(lines) and other != value:
                return value, other
    raise AssertionError("values live at the same time")


def test_backends_that_differ_are_seen(
    whole: RandomGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = stages(whole.program.module(), ("scheduled",))["scheduled"]
    build = Built.__init__

    def wrong(self: Built, of: ModuleOp, name: str, folder: Path) -> None:
        text = str(of).replace("arith.mulf", "arith.addf", 1) if name == "llvm" else str(of)
        build(self, parse(text), name, folder)

    monkeypatch.setattr(Built, "__init__", wrong)
    with pytest.raises(Disagreement, match=r"bits are required; .* llvm on 1 has .* c on 1"):
        Case(whole.program).assert_backends_agree(module, tmp_path, ("c", "llvm"))


def test_a_wrong_gradient_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth too much in one op's rule: everybody agrees but PyTorch."""
    nodes = [node(LinearOp, "x w -> a"), node(RmsNormOp, "a gain -> y", eps=1e-5)]
    program = training(graph(7, {"w": trained(17, 7), "gain": tensor(17)}, nodes, "y"))
    right = RmsNormOp.vjp
    check_training(program, tmp_path)

    def wrong(op: RmsNormOp, b: Any, dy: SSAValue) -> list[SSAValue]:
        dx, dw = right(op, b, dy)
        return [b.insert(ScaleOp.build_op(dx, factor=1.001)).y, dw]

    monkeypatch.setattr(RmsNormOp, "vjp", wrong)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Disagreement, match=r"grad.*the f64 interpreter has .*, PyTorch"):
        check_training(program, other)


def test_a_wrong_reference_is_seen(whole: RandomGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch does not share it."""
    case, module = Case(whole.program), whole.program.module()
    monkeypatch.setattr(MulOp, "reference", lambda op, a, b: (a * b * 1.0000001,))
    wrong, want = case.interpreted(module, np.float64), case.by_torch(module)
    with pytest.raises(Disagreement, match="PyTorch"):
        assert_near("wrong", wrong, "PyTorch", want, Bound(1e-22, 0, {}))
