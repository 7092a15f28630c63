"""Parity with PyTorch: the canary of each family, other runs, what is not judged, ck train --parity."""

import itertools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import GateError, MachineError
from ck.frontend.architectures import ARCHITECTURES
from ck.runtime.trainable import compile_trainable
from ck.train.config import OptimConfig, load_config
from ck.train.parity import peer, pytorch
from ck.train.parity.figures import Figure, cosines, distance, excess, relatives, verdict, worst
from ck.train.parity.peer import Peer
from ck.train.parity.report import parity
from ck.train.parity.torch_run import torch_run
from ck.train.rundir import RunDirectory
from ck.train.runs import resume
from ck.train.setup import reopen
from tests.train.parity_runs import SETS, Said, check_of, compared, figure, packed, trained
from tests.train.small_runs import MODEL, documents, options, template

pytestmark = pytest.mark.oracle

# The canary of DESIGN, section 9, on a model that is small enough for every run of the tests; `make parity`
# takes a larger one.
CANARY: dict[str, Any] = {
    "embed_dim": 64, "hidden_dim": 128, "num_heads": 4, "num_kv_heads": 2, "steps": 200, "grad_accum": 4,
    "lr": 3e-4, "schedule": "constant", "save_every": 200, "eval_every": 200,
}  # fmt: skip
if os.environ.get("CK_CANARY") == "large":
    CANARY |= {
        "layers": 4, "embed_dim": 128, "hidden_dim": 512, "num_heads": 8, "num_kv_heads": 4,
        "vocab_size": 1024, "context_len": 512, "seq_len": 128, "batch": 4, "threads": None,
        "data": [str(Path(__file__).parents[2] / "docs")],
    }  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_canary(family: str, training: Path, measured: Callable[[str], None]) -> None:
    report = compared(family, **CANARY)
    assert report.passed is True, report.summary()
    assert report.search is None
    names = [check.name for check in report.checks if check.passed]
    assert names == [
        "loss curve", "gradients of step 1", *(f"step parity at {n}" for n in (1, 10, 50, 200)),
        "parameters after step 200", "the run's own losses",
    ]  # fmt: skip
    assert check_of(report, "states after step 200").passed is None
    limits = {f.name: f.limit for f in check_of(report, "loss curve").figures}
    assert limits == {"max |difference|": 1e-4, "mean |difference|": 5e-5}
    assert figure(report, "parameters after step 200", "max |difference|").limit == 1e-4
    interval = {"attention_interval": 2} if template(family).hp.recurrent_layers else {}
    tensors = template(family, layers=CANARY.get("layers", MODEL["layers"]), **interval).shapes
    assert check_of(report, "gradients of step 1").detail["tensors"] == len(tensors)
    losses = check_of(report, "loss curve").detail["ck"]
    assert losses[-1] < losses[0] - 0.5
    kept = json.loads((training / "run" / "reports" / "parity.json").read_text())
    assert kept == json.loads(json.dumps(report.to_json()))
    curve, parameters = check_of(report, "loss curve"), figure(report, names[-2], "max |difference|")
    measured(
        f"canary {family}: loss max {curve.figures[0].value:.1e}, mean {curve.figures[1].value:.1e}, "
        f"parameters {parameters.value:.1e}"
    )


@pytest.mark.parametrize(
    ("family", "changes", "sets"),
    [
        ("llama", {"optimizer": "sgd", "lr": 0.1}, ("optim.decay=all",)),
        ("gemma3", {"lr": 1e-3, "warmup": 1, "grad_accum": 2}, ("optim.decay=all",)),
        ("llama", {"lr": 1e-3}, ("optim.max_grad_norm=0", "run.activation_budget=0", "model.tied=true")),
    ],
)
def test_other_configurations(
    family: str, changes: dict[str, Any], sets: tuple[str, ...], training: Path
) -> None:
    report = compared(family, sets, steps=11, **changes)
    assert report.passed is True, report.summary()
    # The canary's limits are not theirs, and say why.
    curve = check_of(report, "loss curve")
    assert curve.passed is None
    assert "limits are the canary's" in str(curve.figures[0].reason)
    assert curve.figures[0].value is not None


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_documents_of_a_window_do_not_see_each_other(family: str) -> None:
    """PyTorch's masks and positions: in f64 a packed window is its documents, one by one."""
    sizes = {"sliding_window": 5} if template(family).hp.sliding_window else {}
    model, lengths = template(family, **sizes), [9, 14, 3]
    rows, weights = documents(lengths), template(family, **sizes).initial_weights()
    ends = np.cumsum([0, *lengths])
    found = []
    for batches in (
        [packed(rows, 0, 26)],
        [packed(rows, a, b) for a, b in itertools.pairwise(ends)],
    ):
        side = Peer(model, OptimConfig(), "f64")
        side.load(weights, {}, 0)
        loss = sum(side.accumulate(batch, 0.1) for batch in batches)
        found.append((loss, side.gradients()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-13)
    # Epsilon of f64 x terms.
    assert max(relatives(found[0][1], found[1][1]).values()) < 1e-12


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_f64_is_f64_throughout(family: str) -> None:
    """The slope over a step of 1e-6 of the weights: one rounding to f32 on the way is off by 1e-2."""
    model, batch = template(family), packed(documents([26]), 0, 26)
    weights = model.initial_weights()
    side = Peer(model, OptimConfig(), "f64")
    side.load(weights, {}, 0)
    side.accumulate(batch, 1.0)
    gradients = side.gradients()
    ends = []
    for h in (1e-6, -1e-6):
        side.load({name: w.astype(np.float64) * (1 + h) for name, w in weights.items()}, {}, 0)
        ends.append(side.evaluate(batch))
    slope = sum(float((gradients[name] * w).sum()) for name, w in weights.items())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


def test_bf16_is_compared_with_bf16_products_and_judged_by_nothing(training: Path) -> None:
    report = compared(dtype="bf16", steps=2)
    assert report.search is None
    own = "the run's own losses"
    assert {check.name for check in report.checks if check.passed is not None} == {own}
    # That the run is the one that was compared does not make the comparison a pass.
    assert report.passed is None
    report.require()
    with pytest.raises(GateError, match="nothing was judged, the limits are those of f32"):
        report.require(passed_only=True)
    for check in report.checks:
        for each in check.figures if check.name != own else ():
            assert each.limit is None
            assert each.reason
    assert check_of(report, "step parity").figures[0].value is None
    # Products of bf16 factors on both sides, against f32 on one: f32's own distance to bf16 is 2e-3.
    gradients = figure(report, "gradients of step 1", "relative").value
    assert gradients is not None
    model = template()
    rows, weights = documents([20, 12]), model.initial_weights()
    ours = compile_trainable(model, 1, 32, weights=weights, dtype="bf16", threads=1)
    ours.accumulate(rows, 0.1)
    sides = {}
    for arithmetic in ("f32", "bf16"):
        side = Peer(model, OptimConfig(), arithmetic)
        side.load(weights, {}, 0)
        side.accumulate(packed(rows, 0, 32), 0.1)
        sides[arithmetic] = side.gradients()
    near = math.hypot(*(distance(ours.gradients[n], g) for n, g in sides["bf16"].items()))
    far = math.hypot(*(distance(ours.gradients[n], g) for n, g in sides["f32"].items()))
    assert near < far / 4


def test_a_tensor_on_one_side_fails(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    make = peer._model

    def with_one_more(*given: Any) -> Any:
        model = make(*given)
        model.extra = torch.nn.Parameter(torch.zeros(3))
        return model

    monkeypatch.setattr(peer, "_model", with_one_more)
    report = compared(steps=1)
    each = figure(report, "gradients of step 1", "tensors not on both sides")
    assert (each.value, each.passed, each.where) == (1, False, "extra")


def test_the_run_that_was_trained_is_the_one_compared(training: Path) -> None:
    trained(lr=1e-3)
    own, changed = "the run's own losses", training / "run" / "metrics.jsonl"
    lines = changed.read_text().splitlines(keepends=True)
    second = json.loads(lines[1])
    lines[1] = json.dumps(second | {"loss": second["loss"] + 1e-6}) + "\n"
    changed.write_text("".join(lines))
    report = parity("./run", lambda _: None)
    assert report.passed is False
    assert check_of(report, own).figures[0].where == "first at step 2"
    changed.write_text("".join(lines[:1]))
    reasons = [check_of(parity("./run", lambda _: None), own).figures[0].reason]
    record = json.loads((training / "run" / "run.json").read_text())
    record["machine"]["isa_path"] = "another"
    (training / "run" / "run.json").write_text(json.dumps(record))
    lines[1] = json.dumps(second) + "\n"
    changed.write_text("".join(lines))
    reasons.append(check_of(parity("./run", lambda _: None), own).figures[0].reason)
    assert [str(reason)[:27] for reason in reasons] == [
        "the run has done 1 of 3 ste",
        "the run was trained with {'",
    ]


def test_a_run_whose_learning_rate_was_changed(training: Path) -> None:
    trained(steps=2)
    resume("./run", flags={"steps": 4}, sets=("optim.lr=1e-3",))
    own = check_of(parity("./run", lambda _: None), "the run's own losses")
    assert own.passed is None
    assert own.figures[0].reason == "the run's optimizer was changed at a resume"


@pytest.mark.parametrize("wish", ["off", "suggest", "run", "require"])
def test_train_compares_as_it_is_told(wish: str, training: Path) -> None:
    said = Said()
    trained(watch=said, parity=wish)
    report = training / "run" / "reports" / "parity.json"
    assert report.exists() == (wish in ("run", "require"))
    last = {
        "suggest": "to compare this run with PyTorch: ck parity ./run",
        "run": f"{training / 'run'}: 3 steps agree with PyTorch in 3 checks",
    }
    assert wish == "off" or said.lines[-1] == last.get(wish, last["run"])
    assert wish != "off" or not any("PyTorch" in line for line in said.lines)


def test_parity_without_pytorch(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(steps=1)

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(pytorch, "import_module", missing)
    message = r"transformers is not installed; run: pip install 'ck-engine\[train\]'"
    with pytest.raises(MachineError, match=message):
        parity("./run", lambda _: None)
    (training / "run").rename(training / "earlier")
    with pytest.raises(MachineError, match=message):
        trained(parity="require")
    # Said before anything was trained.
    assert not (training / "run").exists()


def test_a_whole_run_in_pytorch_ends_where_ck_s_does(training: Path) -> None:
    given = options(steps=20, lr=1e-3, threads=1)
    ours = ck.train(run="./run", sets=SETS, **given)
    config = load_config(training / "run" / "config.toml")
    theirs = torch_run(config, reopen(RunDirectory.open("./run"), config))
    assert len(theirs.losses) == 20
    assert theirs.losses[-1] == pytest.approx(ours.loss, abs=1e-5)
    assert theirs.dev_loss == pytest.approx(ours.dev_loss, abs=1e-5)
    assert theirs.dev_bits_per_byte == pytest.approx(ours.dev_bits_per_byte, rel=1e-5)


def test_figures() -> None:
    one, two = np.array([3.0, 4.0]), np.array([3.0, 4.0 + 1e-3])
    tiny, nan = np.array([1e-9]), np.array([math.nan, 1.0])
    exact = {"a": one, "b": tiny}
    assert relatives({"a": two}, exact) == {"a": pytest.approx(2e-4)}
    # Below the floor a tensor is measured by the global norm.
    assert relatives({"b": 2 * tiny}, exact)["b"] == pytest.approx(1e-9 / 5e-6)
    assert relatives({"a": nan}, {"a": one})["a"] == math.inf
    assert relatives({"a": one[:1]}, {"a": one})["a"] == math.inf
    assert relatives({"a": one}, {"a": nan})["a"] == math.inf
    assert cosines({"a": -one, "b": tiny}, exact) == {"a": pytest.approx(2)}
    assert cosines({"a": np.zeros(2)}, {"a": one})["a"] == math.inf
    assert excess({"a": one + 8e-3}, {"a": one + 2e-3}, {"a": one}) == pytest.approx(4)
    assert excess({"a": one}, {"a": one}, {"a": one}) == 0
    figures = [Figure("x", 1.0, 2.0), Figure("x", math.nan, 2.0), Figure("x", None, 2.0), Figure("x", 1.0)]
    assert [each.passed for each in figures] == [True, False, None, None]
    assert worst("x", {}, 1.0).passed is None
    assert [verdict(each) for each in ([], [None], [True, None], [True, False])] == [None, None, True, False]
