"""Trainables: what Python drives a training program with, its updates against PyTorch's, what is refused."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import UsageError
from ck.runtime.trainable import Hyper, Rows, Trainable, compile_trainable, sequences
from tests.train.small_runs import distance, documents, template

N_UPDATES = 20
# Of parameters and moments, relative to the largest of a tensor: PyTorch rounds the same sums, and powers of
# the betas in f64 as well.
MAX_ULPS = 4


@pytest.fixture(autouse=True)
def cache(training_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))


def compiled(family: str = "llama", **options: Any) -> Trainable:
    return compile_trainable(template(family), batch=2, seq=32, init="xavier_normal", **options)


def random_gradients(trainable: Trainable, rng: np.random.Generator) -> None:
    for gradient in trainable.gradients.values():
        gradient[...] = rng.standard_normal(gradient.shape, np.float32) * np.float32(0.1)


def ulps(a: Any, b: Any) -> float:
    """The largest difference in units of the last place of the tensor's largest number."""
    return float(np.abs(a - b).max() / np.spacing(np.abs(b).max()))


def as_torch(trainable: Trainable, shifted: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The parameters as torch's own; those of `shifted` as transformers has them, 1 less."""
    import torch

    return {
        name: torch.nn.Parameter(torch.from_numpy(values - np.float32(name in shifted)).clone())
        for name, values in trainable.parameters.items()
    }


def groups(theirs: dict[str, Any], decay: str, weight_decay: float) -> list[dict[str, Any]]:
    decayed = [p for p in theirs.values() if decay == "all" or p.ndim == 2]
    plain = [p for p in theirs.values() if decay == "matrices" and p.ndim != 2]
    both = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in both if group["params"]]


def take_steps(trainable: Trainable, theirs: dict[str, Any], optimizer: Any, hyper: Hyper) -> Iterator[float]:
    """Updates of both on the same random gradients; yields the norms ck clips by."""
    import torch

    rng = np.random.default_rng(5)
    for step in range(1, N_UPDATES + 1):
        random_gradients(trainable, rng)
        for name, parameter in theirs.items():
            parameter.grad = torch.from_numpy(trainable.gradients[name].copy())
        if hyper.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(theirs.values(), hyper.max_grad_norm)
        optimizer.step()
        yield trainable.grad_norm(hyper)
        trainable.update(hyper, step)
        assert not any(gradient.any() for gradient in trainable.gradients.values())


@pytest.mark.oracle
@pytest.mark.parametrize(("decay", "clip"), [("matrices", 0.0), ("all", 0.0), ("matrices", 1.0)])
def test_adamw_is_pytorchs(decay: str, clip: float, measured: Any) -> None:
    import torch

    trainable = compiled(decay=decay)
    hyper = Hyper(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, max_grad_norm=clip)
    theirs = as_torch(trainable)
    optimizer = torch.optim.AdamW(
        groups(theirs, decay, hyper.weight_decay),
        lr=hyper.lr,
        betas=(hyper.beta1, hyper.beta2),
        eps=hyper.eps,
    )
    norms = list(take_steps(trainable, theirs, optimizer, hyper))
    n = trainable.template.n_parameters
    assert norms[0] == pytest.approx(0.1 * math.sqrt(n), rel=0.02)
    worst = {}
    for name, parameter in theirs.items():
        state = optimizer.state[parameter]
        pairs = (
            (trainable.parameters[name], parameter.detach()),
            (trainable.optimizer_state[f"adam_m.{name}"], state["exp_avg"]),
            (trainable.optimizer_state[f"adam_v.{name}"], state["exp_avg_sq"]),
        )
        worst[name] = max(ulps(ours, other.numpy()) for ours, other in pairs)
    measured(
        f"adamw, decay {decay}, clip {clip}: {max(worst.values()):.2f} ulps of PyTorch's after {N_UPDATES}"
    )
    assert {name: found for name, found in worst.items() if found > MAX_ULPS} == {}


@pytest.mark.oracle
@pytest.mark.parametrize(("decay", "momentum"), [("matrices", 0.9), ("all", 0.9), ("matrices", 0.0)])
def test_sgd_is_pytorchs(decay: str, momentum: float, measured: Any) -> None:
    import torch

    trainable = compiled(decay=decay, optimizer="sgd")
    hyper = Hyper(lr=1e-2, momentum=momentum, weight_decay=0.1, max_grad_norm=0)
    theirs = as_torch(trainable)
    optimizer = torch.optim.SGD(groups(theirs, decay, hyper.weight_decay), lr=hyper.lr, momentum=momentum)
    for _ in take_steps(trainable, theirs, optimizer, hyper):
        pass
    worst = {name: ulps(trainable.parameters[name], p.detach().numpy()) for name, p in theirs.items()}
    if momentum:
        for name, p in theirs.items():
            ours = trainable.optimizer_state[f"momentum.{name}"]
            worst[name] = max(worst[name], ulps(ours, optimizer.state[p]["momentum_buffer"].numpy()))
    measured(f"sgd, decay {decay}, momentum {momentum}: {max(worst.values()):.2f} ulps after {N_UPDATES}")
    assert {name: found for name, found in worst.items() if found > MAX_ULPS} == {}
    assert trainable.optimizer_state.keys() == {f"momentum.{name}" for name in trainable.parameters}


@pytest.mark.oracle
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_gains_stored_as_one_more_decay_as_transformers_has_them(optimizer: str) -> None:
    import torch

    trainable = compiled("gemma3", decay="all", optimizer=optimizer)
    gains = frozenset(name for name, shape in trainable.template.shapes.items() if len(shape) == 1)
    rng = np.random.default_rng(3)
    for name in gains:
        trainable.parameters[name][...] = 1 + rng.standard_normal(trainable.parameters[name].shape) / 10
    hyper = Hyper(lr=1e-2, weight_decay=0.5, max_grad_norm=0)
    theirs = as_torch(trainable, gains)
    found = groups(theirs, "all", hyper.weight_decay)
    kinds = {
        "adamw": lambda: torch.optim.AdamW(found, lr=hyper.lr, betas=(0.9, 0.95)),
        "sgd": lambda: torch.optim.SGD(found, lr=hyper.lr, momentum=hyper.momentum),
    }
    for _ in take_steps(trainable, theirs, kinds[optimizer](), hyper):
        pass
    assert gains
    for name, parameter in theirs.items():
        shift = np.float32(name in gains)
        assert distance(trainable.parameters[name], parameter.detach().numpy() + shift) <= 1e-6, name


def test_the_views_are_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    trainable = ck.compile(template(), mode="train", batch=2, seq=32)
    assert isinstance(trainable, Trainable)
    names = trainable.template.shapes
    assert trainable.parameters.keys() == trainable.gradients.keys() == names.keys()
    assert trainable.optimizer_state.keys() == {f"adam_{m}.{name}" for m in "mv" for name in names}
    assert all(trainable.parameters[name].shape == shape for name, shape in names.items())
    batch = documents([32, 32])
    before = trainable.evaluate(batch)
    nll = trainable.accumulate(batch, 1.0)
    assert np.array_equal(nll, before)
    gradient = trainable.gradients["output_norm.weight"].copy()
    assert gradient.any()
    # Accumulation adds; writing a parameter is seen by the next call.
    trainable.accumulate(batch, 1.0)
    assert distance(trainable.gradients["output_norm.weight"], 2 * gradient) <= 1e-6
    trainable.parameters["output_norm.weight"][...] = 0
    assert np.allclose(trainable.evaluate(batch)[batch.targets >= 0], math.log(300), atol=1e-5)
    trainable.zero_gradients()
    assert not any(each.any() for each in trainable.gradients.values())


def test_a_gradient_is_the_slope_of_the_loss() -> None:
    trainable = compiled()
    batch = documents([32, 32])
    trainable.accumulate(batch, 1 / batch.n_scored)
    gradients = {name: gradient.astype(np.float64) for name, gradient in trainable.gradients.items()}
    slope = sum(float((g**2).sum()) for g in gradients.values())
    first = {name: values.copy() for name, values in trainable.parameters.items()}

    def loss(t: float) -> float:
        for name, values in trainable.parameters.items():
            values[...] = first[name] + t * gradients[name]
        return float(trainable.evaluate(batch).sum(dtype=np.float64)) / batch.n_scored

    assert (loss(2e-3) - loss(-2e-3)) / 4e-3 == pytest.approx(slope, rel=1e-3)


def test_a_step_is_its_parts_and_counts_itself() -> None:
    tokens = np.arange(64).reshape(2, 32) % 7
    targets = (tokens + 1) % 7
    targets[0, :5] = -1
    hyper = Hyper(lr=1e-3)
    whole, parts = compiled(), compiled()
    for number in (1, 2, 3):
        result = whole.step(tokens, targets, hyper)
        batch = sequences(tokens, targets)
        nll = parts.accumulate(batch, 1 / batch.n_scored)
        assert result.loss == pytest.approx(nll.sum(dtype=np.float64) / 59, rel=1e-12)
        assert result.grad_norm == parts.grad_norm(hyper)
        parts.update(hyper, number)
        assert whole.updates == number
    assert all(np.array_equal(whole.parameters[name], values) for name, values in parts.parameters.items())
    # Adam's correction of young moments ends: always number 1 is another training.
    other = compiled()
    for _ in range(3):
        other.step(tokens, targets, hyper, number=1)
    assert not np.array_equal(whole.parameters["output.weight"], other.parameters["output.weight"])


def test_one_program_serves_other_hyperparameters_and_shapes() -> None:
    first = compiled()
    for hyper in (
        Hyper(lr=1e-2, beta1=0.5),
        Hyper(max_grad_norm=0.1, weight_decay=0),
        Hyper(beta2=0.999, eps=1e-3),
    ):
        again = compiled()
        assert again.program.compiled == first.program.compiled
        theirs = compiled()
        for shape in ((2, 32), (1, 7), (16, 4)):
            tokens = np.arange(math.prod(shape)).reshape(shape)
            results = [each.step(tokens, tokens, hyper) for each in (again, theirs)]
            assert results[0] == results[1]
        assert not np.array_equal(again.parameters["output.weight"], first.parameters["output.weight"])
    # The clip bounds what SGD moves by: lr * max_grad_norm.
    sgd = compiled(optimizer="sgd")
    before = {name: values.copy() for name, values in sgd.parameters.items()}
    result = sgd.step(*[np.arange(64).reshape(2, 32)] * 2, Hyper(lr=0.5, max_grad_norm=1e-2, weight_decay=0))
    moved = math.sqrt(
        sum(float(((v - before[k]).astype(np.float64) ** 2).sum()) for k, v in sgd.parameters.items())
    )
    assert result.grad_norm > 1e-2
    assert moved == pytest.approx(0.5 * 1e-2, rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_bf16_lowers_the_loss_and_is_not_f32(family: str) -> None:
    tokens = np.tile(np.arange(32), (2, 1))
    losses = {}
    for dtype in ("f32", "bf16"):
        trainable = compiled(family, dtype=dtype)
        losses[dtype] = [trainable.step(tokens, tokens + 1, Hyper(lr=3e-3)).loss for _ in range(30)]
        assert all(values.dtype == np.float32 for values in trainable.parameters.values())
    assert losses["bf16"][-1] < losses["bf16"][0] / 2
    assert losses["bf16"] != losses["f32"]
    # Eight bits of mantissa: the same curve, roughly.
    assert losses["bf16"][0] == pytest.approx(losses["f32"][0], rel=1e-2)
    assert losses["bf16"][-1] == pytest.approx(losses["f32"][-1], rel=0.1)


def test_what_is_refused() -> None:
    trainable = compiled()
    good = documents([32, 32])

    def refuse(match: str, batch: Rows) -> None:
        with pytest.raises(UsageError, match=match):
            trainable.accumulate(batch, 1.0)

    refuse("from 1 to 64 rows are required, found 65", documents([65]))
    refuse("from 1 to 64 rows are required, found 0", Rows(*[np.zeros(0, np.int32)] * 4))
    refuse("ids are 0 to 299, found others", replace(good, tokens=good.tokens + np.int32(300)))
    refuse("ids are 0 to 299, found others", replace(good, tokens=good.tokens - np.int32(300)))
    refuse("ids are 0 to 299, found others", replace(good, targets=good.targets + np.int32(300)))
    refuse(r"of one length, found \[64, 63, 64, 64\]", replace(good, targets=good.targets[1:]))
    for wrong in (
        good.starts + np.int32(1),
        good.starts[::-1],
        np.arange(64)[::-1],
        good.starts - np.int32(9),
    ):
        refuse("starts rise from 0", replace(good, starts=wrong.astype(np.int32)))
    assert not any(gradient.any() for gradient in trainable.gradients.values())
    for tokens, targets in (([[1, 2]], [[1]]), ([1.5], [2]), ([[[1]]], [[[1]]])):
        with pytest.raises(UsageError, match=r"tokens and targets are integers \[B, T\]"):
            trainable.step(tokens, targets)
    short = dict(trainable.parameters) | {"output.weight": np.zeros((3, 3), np.float32)}
    with pytest.raises(UsageError, match=r"tensor output.weight: \[300, 32\] is required, found \(3, 3\)"):
        trainable.load(short)
    with pytest.raises(UsageError, match=r"tensor output.weight: .* found none"):
        trainable.load(
            {name: values for name, values in trainable.parameters.items() if name != "output.weight"}
        )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"optimizer": "adam"}, "optimizer: one of adamw, sgd is required, found adam"),
        ({"decay": "some"}, "decay: one of matrices, all is required, found some"),
        ({"dtype": "f16"}, "dtype: one of f32, bf16 is required, found f16"),
        ({"activation_budget": 1.5}, "activation_budget: from 0 to 1 is required, found 1.5"),
        ({"batch": 2.0}, "batch and seq are whole numbers of at least 1, found 2.0"),
        ({"batch": 1 << 20}, "at most 262144 rows are required, found 33554432"),
        ({"seq": 1 << 14}, "seq: at most the template's context_len"),
        ({"batch": 0}, "batch and seq are whole numbers of at least 1"),
        ({"init": "ones"}, "ones"),
        ({"threads": 0}, "threads"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        compile_trainable(template(), **({"batch": 2, "seq": 32} | options))
    with pytest.raises(UsageError, match=r"mode train: a ck.template is required, found str"):
        compile_trainable("model.gguf", batch=2, seq=32)
    with pytest.raises(UsageError, match="mode: run or train is required, found eval"):
        ck.compile(template(), mode="eval")


def test_threads_take_turns() -> None:
    """Several Python threads share one trainable: every update is whole."""
    from concurrent.futures import ThreadPoolExecutor

    trainable = compiled()
    ids = np.arange(64, dtype=np.int32).reshape(2, 32) % 50

    def work(_: int) -> None:
        for _ in range(10):
            trainable.step(ids, ids)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert trainable.updates == 40
    assert all(np.isfinite(values).all() for values in trainable.parameters.values())


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda t: t.step([[1, 2], [3]], [[1, 2], [3]]), "found rows of several lengths"),
        (lambda t: t.step([[2**32 + 1]], [[1]]), "ids are at most 2147483647"),
        (lambda t: t.step(np.array([[2**63]], np.uint64), [[1]]), "ids are at most 2147483647"),
        (lambda t: t.step([[1]], [[1]], number=0), "numbers begin at 1, found 0"),
        (lambda t: Hyper(lr=float("nan")), "finite and at least 0, found lr nan"),
    ],
)
def test_calls_that_are_refused(act: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        act(compiled())


def test_a_template_without_a_mode_says_which() -> None:
    with pytest.raises(UsageError, match='a template is compiled with mode="train"'):
        ck.compile(template("llama"))
