"""What departs from PyTorch is named: a rule, a loop, an op, a pass, the update, each broken on purpose."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import FloatAttr, f32

from ck.errors import GateError
from ck.frontend.architectures import ARCHITECTURES
from ck.ir.ops.adamw import AdamwOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.silu import SiluBwdOp, SiluOp
from ck.passes.differentiate import _Cotangents
from ck.passes.fuse_linear import FuseLinearPass
from ck.runtime.trainable import Hyper, compile_trainable
from ck.train.config import OptimConfig, load_config
from ck.train.parity import checks, modules, rules, stages, update
from ck.train.parity.figures import Check, relatives
from ck.train.parity.graphs import Problem, forward
from ck.train.parity.report import parity
from ck.train.rundir import RunDirectory
from ck.train.setup import reopen
from ck.train.trainer import rows_of
from tests.train.parity_runs import Said, check_of, compared, trained
from tests.train.small_runs import documents, template

pytestmark = pytest.mark.oracle

CHOICES = {"optimizer": "adamw", "decay": "matrices", "dtype": "f32", "budget": 1.0}


@pytest.fixture
def training_fresh(training: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`training` with a cache of its own: what is compiled from broken code must not be found again."""
    monkeypatch.setenv("CK_CACHE_DIR", str(training / "cache"))
    return training


def scaled(rule: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """A vjp whose first slope is too large by `factor`."""

    def wrong(self: Any, b: Any, dy: Any) -> Any:
        slope, *others = rule(self, b, dy)
        return (b.insert(ScaleOp.build_op(slope, factor=factor)).y, *others)

    return wrong


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_right_model_departs_nowhere(family: str) -> None:
    """Every op that a module corresponds to is compared: with biases it is the sum, not the product."""
    model, rng = template(family), np.random.default_rng(0)
    weights = {
        name: values + np.float32(0.1) * rng.standard_normal(values.shape, np.float32)
        for name, values in model.initial_weights().items()
    }
    problem = Problem(model, weights, documents([9, 14, 3]), CHOICES)
    ran, theirs = forward(problem), modules.run_modules(problem, OptimConfig())
    assert modules.first_forward(ran, theirs) is None
    assert modules.first_backward(ran, rules.walk_back(ran, model.shapes), theirs) is None
    products = {name.removesuffix("weight") for name in model.shapes if name.endswith(".weight")}
    biases = {name for name in model.shapes if name.endswith(".bias") and name[:-4] in products}
    compared_ones = set(modules._counterparts(ran).values()) & set(theirs.outputs)
    assert biases <= compared_ones


@pytest.mark.parametrize(
    ("family", "op", "gradient", "near"),
    [
        ("llama", SiluOp, "ck.silu_bwd", "blk.1.ffn_gate.weight"),
        ("gemma3", GeluTanhOp, "ck.gelu_tanh_bwd", "blk.1.ffn_gate.weight"),
        ("llama", RmsNormOp, "ck.rms_norm_bwd", "output_norm.weight"),
    ],
)
def test_a_broken_rule_is_named(
    family: str, op: Any, gradient: str, near: str, training_fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op, "vjp", scaled(op.vjp, 1.001))
    report = compared(family, steps=1)
    assert report.passed is False
    assert check_of(report, "gradients of step 1").passed is False
    step = check_of(report, "step parity at 1")
    failed = {f.name for f in step.figures if f.passed is False}
    assert {"gradients, relative", "gradients, excess over f32", "states, relative"} <= failed
    assert report.search is not None
    culprit = report.search.culprit
    assert culprit is not None
    assert gradient in culprit.op
    assert (culprit.search, culprit.near) == ("rules", near)
    assert culprit.error == pytest.approx(1e-3, rel=0.9)
    # What flows back is PyTorch's up to there.
    backward = next(f for f in report.search.findings if f.search == "backward")
    assert backward.near is not None
    with pytest.raises(GateError, match=gradient):
        report.require()
    assert json.loads(report.path.read_text())["search"]["culprit"] == str(culprit)


def test_a_broken_loop_is_named(training_fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule and reference are right, the code that is generated for the op is not."""
    right = SiluBwdOp.lower_row
    monkeypatch.setattr(
        SiluBwdOp, "lower_row", lambda self, b, x, dy: (b.mul(right(self, b, x, dy)[0], b.constant(1.001)),)
    )
    report = compared(steps=1)
    assert report.search is not None
    culprit = report.search.culprit
    assert culprit is not None
    assert (culprit.search, culprit.op, culprit.near) == ("kernels", "ck.silu_bwd", "blk.1.ffn_gate.weight")
    assert {finding.search for finding in report.search.findings} == {"kernels", "stages"}


def test_a_broken_forward_op_is_named(training_fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops and reference agree with each other, and not with transformers."""
    lower, reference = SiluOp.lower_row, SiluOp.reference
    monkeypatch.setattr(
        SiluOp, "lower_row", lambda self, b, x: (b.mul(lower(self, b, x)[0], b.constant(1.001)),)
    )
    monkeypatch.setattr(SiluOp, "reference", lambda self, x: (reference(self, x)[0] * x.dtype.type(1.001),))
    report = compared(steps=1)
    assert report.search is not None
    culprit = report.search.culprit
    assert culprit is not None
    assert (culprit.search, culprit.op) == ("forward", "ck.silu, ck.mul, ck.linear")
    assert culprit.near == "blk.0.ffn_down.weight"


def test_a_broken_pass_is_named(training_fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that changes a norm's epsilon: the kernel departs from the op of the graph, and so its stage."""
    right = FuseLinearPass.apply

    def wrong(self: FuseLinearPass, context: Any, module: Any) -> None:
        right(self, context, module)
        for op in module.walk():
            if isinstance(op, RmsNormOp):
                op.properties["eps"] = FloatAttr(1e-5, f32)

    monkeypatch.setattr(FuseLinearPass, "apply", wrong)
    report = compared(steps=1)
    assert report.search is not None
    found = {finding.search: finding for finding in reversed(report.search.findings)}
    assert found["kernels"].op == "ck.rms_norm"
    assert found["stages"].detail.startswith("stage fused")
    assert "ck-fuse-linear" in found["stages"].op


def test_a_lost_cotangent_is_the_pass_s(training_fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = _Cotangents.of

    def first_alone(self: Any, value: Any) -> Any:
        if value in self.parts:
            self.parts[value] = self.parts[value][:1]
        return right(self, value)

    monkeypatch.setattr(_Cotangents, "of", first_alone)
    report = compared(steps=1)
    assert report.search is not None
    assert report.search.culprit is not None
    assert report.search.culprit.op == "ck-differentiate"


@pytest.mark.parametrize("place", [0, 5], ids=["decay", "learning rate"])
def test_a_wrong_update_is_caught(place: int, training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(steps=1, lr=1e-3)
    right = Hyper.for_adamw

    def wrong(self: Hyper, step: int) -> list[float]:
        values = right(self, step)
        values[place] = 1 - 0.9 * (1 - values[0]) if place == 0 else values[place] * 1.001
        return values

    monkeypatch.setattr(Hyper, "for_adamw", wrong)
    report = parity("./run", lambda _: None)
    step = check_of(report, "step parity at 1")
    assert [f.name for f in step.figures if f.passed is False] == ["update's weights, excess over f32"]
    assert check_of(report, "gradients of step 1").passed is True
    assert report.search is not None
    assert report.search.culprit is not None
    assert (report.search.culprit.search, report.search.culprit.op) == ("update", "ck.adamw")


def test_an_update_that_is_not_its_reference(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(steps=1)
    config = load_config(training / "run" / "config.toml")
    prepared = reopen(RunDirectory.open("./run"), config)
    kept: list[Any] = []
    monkeypatch.setattr(checks.StepParity, "check", lambda self, step: kept.append(step) or Check("", ()))
    trainable = compile_trainable(prepared.template, 2, 32, threads=1)
    checks.compare(config, prepared, trainable, 1, lambda _: None)
    problem = Problem(prepared.template, kept[0].weights, rows_of(kept[0].batches[0]), CHOICES)
    assert update.wrong_update(problem, kept[0]) is None
    right = AdamwOp.reference

    def without_decay(self: AdamwOp, w: Any, *others: Any) -> Any:
        return (right(self, w, *others)[0] + 1e-6, *right(self, w, *others)[1:])

    monkeypatch.setattr(AdamwOp, "reference", without_decay)
    wrong = update.wrong_update(problem, kept[0])
    assert wrong is not None
    assert wrong.op == "ck.adamw"


def test_a_stage_that_departs() -> None:
    rows = documents([9, 7])
    model = template(embed_dim=32)
    problem = Problem(model, model.initial_weights(), rows, CHOICES)
    exact = rules.differentiated(problem)
    assert stages.first_wrong_stage(problem, exact) is None
    name = "blk.1.attn_v.weight"
    wrong = stages.first_wrong_stage(problem, exact | {name: exact[name] * 1.001})
    assert wrong is not None
    assert (wrong.stage, wrong.tensor) == ("differentiated", name)


def test_the_walk_checks_every_rule_between_loss_and_weights() -> None:
    model = template("gemma3", sliding_window=5)
    problem = Problem(model, model.initial_weights(), documents([9, 7]), CHOICES)
    back = rules.walk_back(forward(problem), model.shapes)
    assert back.broken == []
    assert back.gradients.keys() == model.shapes.keys()
    # The pass sums in another order: a few ulps of f64.
    assert max(relatives(rules.differentiated(problem), back.gradients).values()) < 1e-13


def test_train_that_requires_parity_fails_with_the_run_intact(
    training_fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SiluOp, "vjp", scaled(SiluOp.vjp, 1.01))
    said = Said()
    trained(watch=said, parity="run")
    assert "ck.silu_bwd" in said.lines[-1]
    (training_fresh / "run").rename(training_fresh / "earlier")
    with pytest.raises(GateError, match=r"parity: .*ck\.silu_bwd"):
        trained(parity="require")
    assert (training_fresh / "run" / "checkpoints" / "step-3").is_dir()
