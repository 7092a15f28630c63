"""The trainer: alerts, schedules, dev loss, and settings that no program is compiled for."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import GateError
from ck.runtime.trainable import Trainable
from ck.train import alerts, runs
from ck.train.batches import dev_batches, dev_bytes
from ck.train.checkpoints import Checkpoints
from ck.train.config import OptimConfig, load_config
from ck.train.metrics import read_metrics
from ck.train.rundir import RunDirectory
from ck.train.schedules import learning_rate
from ck.train.setup import reopen
from ck.train.trainer import Interrupted, StepReport, rows_of
from tests.train import children
from tests.train.small_runs import contents, measures, options, tensors


class Listening(runs.Quiet):
    """Keeps what is said and reported."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.reports: list[StepReport] = []
        self.dev: list[int] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_dev(self, step: int, loss: float, bits_per_byte: float) -> None:
        self.dev.append(step)


def test_what_a_run_reports_and_keeps(training: Path) -> None:
    watch = Listening()
    result = ck.train(run="./a", steps=45, watch=watch, **options(grad_accum=2))
    run = result.path
    assert run == training / "a"
    lines = measures(run)
    steps, dev = ([line for line in lines if name in line] for name in ("loss", "dev_loss"))
    assert [line["step"] for line in steps] == [*range(1, 46)] == [report.step for report in watch.reports]
    assert [line["step"] for line in dev] == [10, 20, 30, 40, 45] == watch.dev
    assert (result.step, result.loss) == (45, steps[-1]["loss"])
    assert (result.dev_loss, result.dev_bits_per_byte) == (dev[-1]["dev_loss"], dev[-1]["dev_bits_per_byte"])
    assert Checkpoints(run).steps() == [20, 40, 45]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert dev[-1]["dev_loss"] < dev[0]["dev_loss"] < math.log(300)
    # Two micro-batches of 2 x 32 targets a step; the last window of an epoch has fewer.
    data = reopen(RunDirectory.open("./a"), load_config(run / "config.toml")).data
    tokens = [line["tokens"] for line in steps]
    assert tokens[0] == 128
    assert max(np.diff(tokens)) == 128
    n_windows = math.ceil((data.train.n_tokens - 1) / 32)
    epochs, left = divmod(45 * 4, n_windows)
    assert tokens[-1] in (epochs * (data.train.n_tokens - 1) + left * 32 - missing for missing in range(32))
    assert [report.done for report in watch.reports] == [*range(1, 46)]
    assert watch.reports[-1].seconds_left == 0
    assert all(report.seconds_left > 0 for report in watch.reports[:-1])
    for name in ("ir/00-graph.mlir", "ir/05-scheduled.mlir", "build/program.c", "data/index.json"):
        assert (run / name).is_file(), name
    record = json.loads((run / "run.json").read_text())
    assert record["total_steps"] == 45
    assert record["n_parameters"] == sum(v.size for k, v in tensors(run, 45).items() if "adam" not in k)
    assert list((run / "tensorboard").iterdir())


def test_the_dev_loss_is_the_mean_over_the_dev_text(training: Path) -> None:
    run = ck.train(run="./a", steps=10, **options(data=["c.txt"], split="line")).path
    prepared = reopen(RunDirectory.open("./a"), load_config(run / "config.toml"))
    exe = ck.compile(prepared.template, mode="train", batch=2, seq=32)
    exe.load(Checkpoints(run).load(10).weights)
    batches = list(dev_batches(prepared.data, 32, 2))
    nll = np.concatenate([exe.evaluate(rows_of(batch)) for batch in batches]).astype(np.float64)
    n = sum(batch.n_targets for batch in batches)
    assert n == prepared.data.dev.n_tokens - 1
    line = next(line for line in measures(run) if "dev_loss" in line)
    assert line["dev_loss"] == pytest.approx(nll.sum() / n, rel=1e-12)
    expected = nll.sum() / math.log(2) / dev_bytes(prepared.data)
    assert line["dev_bits_per_byte"] == pytest.approx(expected, rel=1e-12)
    # The step's loss is a mean as well: at first, that of a model which knows nothing.
    assert measures(run)[0]["loss"] == pytest.approx(math.log(300), abs=0.1)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
def test_each_schedule_reaches_the_update(schedule: str, training: Path) -> None:
    run = ck.train(run="./a", steps=30, **options(schedule=schedule, warmup=5, lr=1e-3)).path
    config = OptimConfig(schedule=schedule, warmup=5, lr=1e-3)
    rates = [line["lr"] for line in measures(run) if "lr" in line]
    assert rates == [learning_rate(step, 30, config) for step in range(1, 31)]
    assert rates[5] == max(rates) == 1e-3
    assert rates[:5] == sorted(rates[:5])


def test_no_setting_of_the_update_compiles_a_program(training: Path) -> None:
    first = ck.train(run="./first", steps=3, **options()).path
    program = (first / "build" / "program.c").read_bytes()
    found = {contents(first, 3)["weights.safetensors"]}
    changes = (
        {"lr": 1e-2}, {"max_grad_norm": 0.1}, {"grad_accum": 3}, {"schedule": "linear", "warmup": 2},
        {"seed": 7}, {"init": "xavier_normal"}, {"sets": ("optim.beta1=0.5",)},
        {"sets": ("optim.beta2=0.5",)}, {"sets": ("optim.eps=0.01",)}, {"sets": ("optim.weight_decay=5.0",)},
        {"batch": 1, "seq_len": 64},
    )  # fmt: skip
    for number, change in enumerate(changes):
        watch = Listening()
        run = ck.train(run=f"./{number}", steps=3, watch=watch, **options(**change)).path
        assert not [line for line in watch.said if line.startswith("compiling")], change
        assert (run / "build" / "program.c").read_bytes() == program
        found.add(contents(run, 3)["weights.safetensors"])
    # Each did change what was computed.
    assert len(found) == 1 + len(changes)


def test_lengths_in_epochs_and_tokens(training: Path) -> None:
    run = ck.train(run="./epochs", epochs=2, **options()).path
    prepared = reopen(RunDirectory.open("./epochs"), load_config(run / "config.toml"))
    n_windows = math.ceil((prepared.data.train.n_tokens - 1) / 32)
    assert measures(run)[-1]["step"] == math.ceil(2 * n_windows / 2)
    assert measures(run)[-2]["tokens"] >= 2 * (prepared.data.train.n_tokens - 1)
    run = ck.train(run="./tokens", total_tokens=1000, **options()).path
    assert measures(run)[-1]["step"] == math.ceil(1000 / 64)


def test_an_alert_saves_the_last_good_state_and_stops(training: Path) -> None:
    with pytest.raises(GateError, match=r"step 2: .* must be a finite number, found nan") as caught:
        ck.train(run="./a", steps=20, **options(lr=1e30))
    assert caught.value.exit_code == 5
    run = training / "a"
    assert f"; step 1 is saved; go back with ck resume {run} --step 0 and a lower --lr" in str(caught.value)
    assert Checkpoints(run).linked("latest") == 1
    assert all(np.isfinite(values).all() for values in tensors(run, 1).values())
    assert measures(run)[-1]["step"] == 1
    # The same again without a change; then from before the damage, at a rate that works.
    with pytest.raises(GateError, match="step 2: "):
        runs.resume("./a")
    assert runs.resume("./a", step=0, flags={"lr": 3e-4}).step == 20
    straight = ck.train(run="./b", steps=20, **options()).path
    assert contents(run, 20) == contents(straight, 20)
    assert measures(run) == measures(straight)


@pytest.mark.parametrize(
    ("save_every", "line"),
    [
        (20, "step 2: .*; the weights of step 1 are not finite and not saved"),
        (1, "step 1: the weights after it must be finite, they are not, and are not saved"),
    ],
)
def test_weights_that_are_no_numbers_are_not_saved(save_every: int, line: str, training: Path) -> None:
    sets = ("run.keep_last=1", "optim.weight_decay=11.0", "optim.decay=all")
    changes = options(lr=3e37, save_every=save_every)
    with pytest.raises(GateError, match=rf"^{line}; go back with ck resume \S+/a --step 0 and a lower --lr$"):
        ck.train(run="./a", steps=20, sets=sets, **changes)
    assert Checkpoints(training / "a").steps() == [0]
    assert runs.resume("./a", flags={"lr": 1e-10}).step == 20


def test_an_alert_costs_no_earlier_checkpoint(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 31)
    with pytest.raises(GateError, match=r"; step 30 is saved; go back with ck resume .* --step 20 and a low"):
        ck.train(run="./a", steps=50, sets=("run.keep_last=1",), **options(eval_every=99))
    assert Checkpoints(training / "a").steps() == [20, 30]


def test_a_signal_in_the_last_step_ends_nothing_early(training: Path) -> None:
    class Pressing(Listening):
        def on_step(self, report: StepReport) -> None:
            super().on_step(report)
            if report.step == at:
                os.kill(os.getpid(), signal.SIGTERM)

    at = 3
    assert ck.train(run="./a", steps=3, watch=Pressing(), **options()).step == 3
    at = 2
    with pytest.raises(Interrupted, match="step 2 is saved; go on with: ck resume"):
        ck.train(run="./b", steps=3, watch=Pressing(), **options())


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int, where: Any = (3, 3), value: float = np.nan) -> None:
    """Let the gradients of these windows be `value` in one place."""
    norm, calls = Trainable.grad_norm, 0

    def broken(self: Trainable, hyper: Any) -> float:
        nonlocal calls
        calls += 1
        if calls in steps:
            self.gradients["blk.1.attn_k.weight"][where] = value
        return norm(self, hyper)

    monkeypatch.setattr(Trainable, "grad_norm", broken)


def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as once:
        poison(once, 31)
        with pytest.raises(
            GateError, match="step 31: the gradient's norm must be a finite number, found nan"
        ):
            ck.train(run="./a", steps=50, **options())
    run = training / "a"
    assert Checkpoints(run).steps() == [0, 20, 30]
    assert runs.resume("./a").step == 50
    straight = ck.train(run="./b", steps=50, **options()).path
    assert contents(run, 50) == contents(straight, 50)
    assert measures(run) == measures(straight)


def test_a_skipped_step_leaves_all_as_it_was(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 11)
    watch = Listening()
    sets = ("run.alerts=skip", "run.keep_last=9")
    changes = options(save_every=1, schedule="constant")
    run = ck.train(run="./a", steps=13, watch=watch, sets=sets, **changes).path
    before, after = tensors(run, 10), tensors(run, 11)
    assert all(np.array_equal(after[name], values) for name, values in before.items())
    moved = tensors(run, 12)
    assert any(not np.array_equal(moved[name], values) for name, values in after.items())
    assert all(np.isfinite(values).all() for values in moved.values())
    [line] = [line for line in watch.said if "skipped" in line]
    assert line.startswith("step 11 skipped: the gradient's norm must be a finite number, found nan")
    # The skipped update does not count for Adam's correction, but its batches are used up.
    kept = [Checkpoints(run).load(step).record for step in (10, 11, 12)]
    assert [record["updates"] for record in kept] == [10, 10, 11]
    assert kept[1]["cursor"] != kept[0]["cursor"]
    assert math.isnan(read_metrics(run)[11]["grad_norm"])
    # Resumed in the middle, it decides as it did.
    poison(monkeypatch)
    ends = contents(run, 13)
    runs.resume("./a", step=11)
    assert contents(run, 13) == ends


def test_a_run_that_skips_everything_ends(training: Path) -> None:
    with pytest.raises(GateError, match=f"in {alerts.SKIP_LIMIT} steps in a row"):
        ck.train(run="./a", steps=50, sets=("run.alerts=skip",), **options(lr=1e30))
    assert Checkpoints(training / "a").linked("latest") == alerts.SKIP_LIMIT


def test_a_gradient_that_is_dead_is_named(training: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = "found 0; every matrix is zero: --init zeros trains nothing; start anew with another --init$"
    with pytest.raises(GateError, match=f"step 1: the gradient's norm must be at least 1e-12, {zeros}"):
        ck.train(run="./a", steps=5, **options(init="zeros"))
    poison(monkeypatch, 1, where=slice(None), value=0)
    dead = r"step 1: every gradient must differ from 0, that of blk\.1\.attn_k\.weight is all zeros"
    with pytest.raises(GateError, match=dead):
        ck.train(run="./b", steps=5, **options())


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_every_family_and_type_learns(family: str, dtype: str, training: Path) -> None:
    result = ck.train(run="./a", steps=60, **options(template=family, dtype=dtype, lr=3e-3))
    first = measures(result.path)[0]["loss"]
    assert result.loss is not None
    assert result.dev_loss is not None
    assert result.loss < first - 1.5
    assert result.dev_loss < first - 1.5
    assert runs.resume("./a", step=40).dev_loss == result.dev_loss


def test_training_loads_nothing_of_pytorch(training: Path) -> None:
    ck.train(run="./first", steps=1, **options())  # the program is compiled
    code = """
import sys
import ck
from tests.train import children
from tests.train.small_runs import options

ck.train(run="./a", steps=2, **options())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "transformers", "tensorboardX"}))
"""
    assert children.run(code) == "[]\n"


def test_a_trainer_outside_the_main_thread_leaves_signals_alone(training: Path) -> None:
    from threading import Thread

    found: list[Any] = []
    thread = Thread(target=lambda: found.append(ck.train(run="./a", steps=3, **options())))
    thread.start()
    thread.join(60)
    assert found[0].step == 3
