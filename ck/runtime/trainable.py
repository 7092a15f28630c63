"""A compiled training program with its tensors: accumulate gradients, clip, update, evaluate.

Rows are those of a batch of documents laid end to end (ck/ir/ops/packed_attention.py). The result depends on
weights, batch and hyperparameters alone, never on the number of threads.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ck.backend.backends import Backend
from ck.errors import UsageError
from ck.frontend.template import Template
from ck.runtime import products, store
from ck.runtime.building import find_or_build, wanted_backend
from ck.runtime.program import Program, anonymous, pointer_table

Floats = NDArray[np.float32]
DTYPES, OPTIMIZERS, DECAYS = ("f32", "bf16"), ("adamw", "sgd"), ("matrices", "all")
ALIGN = 64
# Rows of a micro-batch; more are better accumulated. The head's chunks are written out, 512 rows each.
ROWS_LIMIT = 1 << 18


@dataclass(frozen=True)
class Rows:
    """A micro-batch of N rows, flat.

    tokens, targets [N] i32 (a target below 0 is not scored), positions [N] within the document, starts [N]
    i32, the first row of each row's document
    """

    tokens: NDArray[np.int32]
    targets: NDArray[np.int32]
    positions: NDArray[np.int32]
    starts: NDArray[np.int32]

    @property
    def n_scored(self) -> int:
        """Targets that count."""
        return int((self.targets >= 0).sum())

    def check(self) -> None:
        """Raises UsageError for what the kernels would follow out of the batch."""
        lengths = [len(array) for array in (self.tokens, self.targets, self.positions, self.starts)]
        if len({*lengths}) > 1:
            raise UsageError(
                f"batch: tokens, targets, positions and starts are of one length, found {lengths}"
            )
        rows = np.arange(len(self.starts))
        if self.starts[0] != 0 or np.any(self.starts > rows) or np.any(np.diff(self.starts) < 0):
            raise UsageError("batch: starts rise from 0, each at most its own row, found others")


@dataclass(frozen=True)
class Hyper:
    """What the update takes at run time. max_grad_norm 0 does not clip; momentum is SGD's."""

    lr: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        wrong = [name for name, value in asdict(self).items() if not 0 <= value < math.inf]
        if wrong:
            found = ", ".join(f"{name} {getattr(self, name)}" for name in wrong)
            raise UsageError(f"hyperparameters are finite and at least 0, found {found}")

    def for_adamw(self, step: int) -> list[float]:
        """ck/ir/ops/adamw.py: the buffer `hyper` at update number `step`, from 1."""
        correction1, correction2 = 1 - self.beta1**step, 1 - self.beta2**step
        return [
            1 - self.lr * self.weight_decay,
            1 - self.beta1,
            self.beta2,
            1 - self.beta2,
            self.eps,
            self.lr / correction1,
            math.sqrt(correction2),
            self.max_grad_norm,
        ]

    def for_sgd(self, step: int) -> list[float]:
        """ck/ir/ops/sgd.py: the buffer `hyper`."""
        return [self.lr, self.momentum, self.weight_decay, 0, 0, 0, 0, self.max_grad_norm]


@dataclass(frozen=True)
class StepResult:
    """The mean loss over the scored targets of the window, and the gradients' norm before clipping."""

    loss: float
    grad_norm: float


class Trainable:
    """A model in training. `parameters`, `gradients` and `optimizer_state` are live views by tensor name.

    frozen  likewise the tensors that are not trained: of a template with adapters, the model under them
    rows  capacity of a micro-batch, B * T;  updates  number of the last update, 0 before the first
    """

    def __init__(
        self,
        template: Template,
        program: store.StoredProgram,
        weights: Mapping[str, Floats],
        threads: int | None = None,
        frozen: Mapping[str, Floats] | None = None,
    ) -> None:
        self.template, self.program = template, program
        self.updates = 0
        self.optimizer = str(program.record["options"]["optimizer"])
        manifest = program.manifest
        self._tensors = _allocate({slot.name: slot.shape for slot in manifest.weights})
        for name, values in program.constants.items():
            self._tensors[name][...] = values
        self.exe = Program(program.compiled, manifest, pointer_table(list(self._tensors.values())), threads)
        self._arguments = {a.name: _buffer(a.kind, a.shape) for a in manifest.fields() if a.kind != "index"}
        self.exe.bind(self._arguments)
        self.rows = len(self._arguments["tokens"])
        self.parameters = {name: self._tensors[name] for name in template.trained}
        self.gradients = {name: self._tensors[f"grad.{name}"] for name in template.trained}
        self.frozen = {name: self._tensors[name] for name in template.frozen}
        states = ("adam_m.", "adam_v.", "momentum.")
        self.optimizer_state = {k: v for k, v in self._tensors.items() if k.startswith(states)}
        # Over several calls a caller holds it; each call takes it, so threads take turns.
        self.lock = self.exe.lock
        self.load(weights)
        self._take_over(self.frozen, frozen or {})

    def load(
        self, weights: Mapping[str, Floats], optimizer_state: Mapping[str, Floats] | None = None
    ) -> None:
        """Take over tensors by name. Raises UsageError for a missing one, or one of another shape."""
        self._take_over(self.parameters, weights)
        if optimizer_state:
            self._take_over(self.optimizer_state, optimizer_state)

    def _take_over(self, into: Mapping[str, Floats], given: Mapping[str, Floats]) -> None:
        for name, tensor in into.items():
            # One at a time, and once: a mapping may make them when asked.
            values = given.get(name)
            if values is None or values.shape != tensor.shape:
                found = "none" if values is None else values.shape
                raise UsageError(f"tensor {name}: {list(tensor.shape)} is required, found {found}")
            with self.lock:
                tensor[...] = values

    def zero_gradients(self) -> None:
        """Forget what has been accumulated."""
        with self.lock:
            for gradient in self.gradients.values():
                gradient[...] = 0

    def accumulate(self, batch: Rows, weight: float) -> Floats:
        """Add the gradient of weight * sum(nll) to the gradients; returns nll [N], 0 where not scored."""
        with self.lock:
            n = self._take(batch)
            slopes = self._arguments["d_nll"]
            slopes[:n, 0] = np.where(batch.targets >= 0, np.float32(weight), np.float32(0))
            self.exe.run("train_step", n)
            return self._arguments["nll"][:n, 0].copy()

    def evaluate(self, batch: Rows) -> Floats:
        """nll [N] of a batch, 0 where not scored; nothing is accumulated."""
        with self.lock:
            n = self._take(batch)
            self.exe.run("eval", n)
            return self._arguments["nll"][:n, 0].copy()

    def grad_norm(self, hyper: Hyper) -> float:
        """The global norm of the gradients; also makes the factor with which `update` clips them."""
        with self.lock:
            self._arguments["hyper"][7] = hyper.max_grad_norm
            self.exe.run("grad_norm", 1)
            return float(self._arguments["norm"][0])

    def update(self, hyper: Hyper, step: int) -> None:
        """Update number `step`, from 1, after `grad_norm`; the gradients are zero afterwards."""
        if step < 1:
            raise UsageError(f"update: numbers begin at 1, found {step}")
        values = hyper.for_adamw(step) if self.optimizer == "adamw" else hyper.for_sgd(step)
        # A rate beyond f32 becomes infinite, which the next step's loss shows.
        with self.lock, np.errstate(over="ignore"):
            self._arguments["hyper"][:] = values
            self.exe.run("update", 1)
            self.updates = step

    def step(
        self, tokens: ArrayLike, targets: ArrayLike, hyper: Hyper | None = None, number: int | None = None
    ) -> StepResult:
        """One whole update on sequences [B, T], each a document: forward, backward, clip, optimizer.

        number  of the update, which corrects Adam's young moments; default: one more than the last
        """
        batch = sequences(tokens, targets)
        hyper = hyper or Hyper()
        with self.lock:
            nll = self.accumulate(batch, 1 / max(1, batch.n_scored))
            norm = self.grad_norm(hyper)
            self.update(hyper, self.updates + 1 if number is None else number)
        return StepResult(float(nll.sum(dtype=np.float64)) / max(1, batch.n_scored), norm)

    def ir(self, stage: str) -> str:
        """The IR's text at a stage of the pipeline. Raises UsageError for another name."""
        try:
            return self.program.ir(stage)
        except KeyError as error:
            raise UsageError(str(error.args[0])) from error

    def source(self, backend: str | None = None) -> str:
        """The text that was compiled, C or LLVM's; or that which the backend of that name would compile."""
        return products.source(self.program, backend)

    def _take(self, batch: Rows) -> int:
        """Put a batch where the program reads it. Raises UsageError when it does not fit."""
        n, vocab = len(batch.tokens), self.template.hp.n_vocab
        if not 1 <= n <= self.rows:
            raise UsageError(f"batch: from 1 to {self.rows} rows are required, found {n}")
        batch.check()
        if batch.tokens.min() < 0 or max(batch.tokens.max(), batch.targets.max()) >= vocab:
            raise UsageError(f"batch: ids are 0 to {vocab - 1}, found others")
        for name in ("tokens", "targets", "starts"):
            self._arguments[name][:n] = getattr(batch, name)
        self._arguments["positions"][:n, 0] = batch.positions
        return n


def sequences(tokens: ArrayLike, targets: ArrayLike) -> Rows:
    """Sequences [B, T] (or one, [T]) as rows, each a document of its own. Raises UsageError."""
    try:
        ids, wanted = np.atleast_2d(np.asarray(tokens)), np.atleast_2d(np.asarray(targets))
    except ValueError as error:
        raise UsageError(
            "batch: tokens and targets are integers [B, T], found rows of several lengths"
        ) from error
    if ids.ndim != 2 or ids.shape != wanted.shape or ids.dtype.kind not in "iu":
        raise UsageError(
            f"batch: tokens and targets are integers [B, T], found {ids.shape} and {wanted.shape}"
        )
    limit = np.iinfo(np.int32).max
    if ids.size and (max(ids.max(), wanted.max()) > limit or min(ids.min(), wanted.min()) < -limit):
        raise UsageError(f"batch: ids are at most {limit}, found others")
    count, length = ids.shape
    positions = np.tile(np.arange(length, dtype=np.int32), count)
    starts = np.repeat(np.arange(count, dtype=np.int32) * length, length).astype(np.int32)
    return Rows(ids.reshape(-1).astype(np.int32), wanted.reshape(-1).astype(np.int32), positions, starts)


def _allocate(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Zero tensors in one region, each on a cache line."""
    sizes = {name: -(-4 * math.prod(shape) // ALIGN) * ALIGN for name, shape in shapes.items()}
    region = anonymous(sum(sizes.values()) + ALIGN)
    tensors: dict[str, Floats] = {}
    offset = 0
    for name, shape in shapes.items():
        tensors[name] = region[offset : offset + 4 * math.prod(shape)].view(np.float32).reshape(shape)
        offset += sizes[name]
    return tensors


def _buffer(kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.zeros(shape, np.int32 if kind == "i32" else np.float32)


def compile_trainable(
    template: Template | Any,
    batch: int = 8,
    seq: int = 512,
    *,
    weights: Mapping[str, Floats] | None = None,
    frozen: Mapping[str, Floats] | None = None,
    init: str = "normal_0p02",
    seed: int = 42,
    optimizer: str = "adamw",
    decay: str = "matrices",
    dtype: str = "f32",
    activation_budget: float = 1.0,
    threads: int | None = None,
    backend: str | None = None,
    force: bool = False,
    check: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Trainable:
    """Compile the training program of a template, or load it from the cache, with first weights.

    batch, seq         capacity of a micro-batch: any B' x T' of at most batch * seq rows runs
    weights            first weights by name; default: drawn by `init` and `seed`
    frozen             of a template with adapters: the weights of the model under them
    optimizer, decay   adamw or sgd; weight decay on matrices or all
    dtype              f32, or bf16: products of bf16 factors over f32 master weights
    activation_budget  fraction of the activations' bytes that are saved, the others recomputed
    backend            c or llvm; None is C where a C compiler works, else LLVM, with a CkWarning
    check              execute it before and after every pass and compiled, on made-up numbers, and compare

    Raises UsageError, MachineError, ResourceError, and GateError from a check: each one line.
    """
    if not isinstance(template, Template):
        raise UsageError(f"mode train: a ck.template is required, found {type(template).__name__}")
    options = {"optimizer": optimizer, "decay": decay, "dtype": dtype, "budget": float(activation_budget)}
    rows, made_by = _rows(options, batch, seq, template.hp.context_length), wanted_backend(backend)
    program = _program(template, rows, options, made_by, (force, check), progress or (lambda _: None))
    first = template.initial_weights(init, seed) if weights is None else weights
    return Trainable(template, program, first, threads, frozen)


def _check_program(
    template: Template, rows: int, options: Mapping[str, Any], progress: Callable[[str], None]
) -> None:
    from ck.runtime.check import check_training

    check_training(template, rows, options, progress)


def _rows(options: Mapping[str, Any], batch: int, seq: int, context_len: int) -> int:
    """The rows of a micro-batch. Raises UsageError for what cannot be compiled."""
    for name, known in (("optimizer", OPTIMIZERS), ("decay", DECAYS), ("dtype", DTYPES)):
        if options[name] not in known:
            raise UsageError(f"{name}: one of {', '.join(known)} is required, found {options[name]}")
    if not all(isinstance(size, Integral) and size >= 1 for size in (batch, seq)):
        raise UsageError(f"batch and seq are whole numbers of at least 1, found {batch} and {seq}")
    if batch * seq > ROWS_LIMIT:
        raise UsageError(f"batch * seq: at most {ROWS_LIMIT} rows are required, found {batch * seq}")
    if seq > context_len:
        raise UsageError(f"seq: at most the template's context_len {context_len} is required, found {seq}")
    if not 0 <= options["budget"] <= 1:
        raise UsageError(f"activation_budget: from 0 to 1 is required, found {options['budget']}")
    return int(batch) * int(seq)


def _program(
    template: Template,
    rows: int,
    options: Mapping[str, Any],
    wanted: Backend | None,
    how: tuple[bool, bool],
    progress: Callable[[str], None],
) -> store.StoredProgram:
    """The compiled program, from the cache or into it; `how` is `force` and `check`."""
    force, check = how
    if check:
        _check_program(template, rows, options, progress)

    def fill(directory: Path, made_by: Backend) -> tuple[object, ...]:
        from ck.runtime.compilation import compile_training

        return (compile_training(directory, template, rows, options, made_by, progress),)

    adapters = None if template.adapters is None else asdict(template.adapters)
    return find_or_build(("train", asdict(template.hp), adapters, rows, options), fill, wanted, force)
