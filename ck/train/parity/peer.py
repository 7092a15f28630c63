"""A run's model in PyTorch: transformers' class of its family, PyTorch's autograd, clipping and optimizer.

Tensors come and go under ck's names and in its conventions (ck/frontend/architectures/outward). Rows attend
within their document alone: each row has its position in its document, and the mask hides other documents.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import UnsupportedError
from ck.frontend.architectures.outward import find_outward
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.template import Template
from ck.train.batches import Batch
from ck.train.config import OptimConfig
from ck.train.parity.pytorch import Arithmetic, computing_in, pytorch

Tensors = dict[str, NDArray[np.floating[Any]]]
# What ck and PyTorch call an optimizer's states.
MOMENTS = {
    "adamw": {"adam_m": "exp_avg", "adam_v": "exp_avg_sq"},
    "sgd": {"momentum": "momentum_buffer"},
}


class Peer:
    """The model in training in PyTorch, one optimizer step at a time."""

    def __init__(self, template: Template, optim: OptimConfig, arithmetic: Arithmetic = "f32") -> None:
        """Raises UnsupportedError when transformers has no model of these numbers."""
        self.torch = pytorch()
        outward = find_outward(template.hp.arch)
        if outward is None:
            raise UnsupportedError(f"parity: transformers' model of {template.hp.arch} is not known")
        self.hp, self.optim, self.outward = template.hp, optim, outward
        self.arithmetic: Arithmetic = arithmetic
        self.model = _model(self.torch, template.hp, outward.huggingface_config(template.hp))
        if arithmetic == "f64":
            # Buffers stay: the frequencies of positions are f32 numbers by definition.
            for parameter in self.model.parameters():
                parameter.data = parameter.data.double()
        self.dtype = self.torch.float64 if arithmetic == "f64" else self.torch.float32
        self.named: dict[str, Any] = dict(self.model.named_parameters())
        self.ours = {theirs: name for name, theirs in outward.huggingface_names(template.hp).items()}
        self.optimizer = self._optimizer()

    def _optimizer(self) -> Any:
        optim, torch = self.optim, self.torch
        decayed = [p for p in self.named.values() if p.ndim >= 2 or optim.decay == "all"]
        others = [p for p in self.named.values() if p.ndim < 2 and optim.decay != "all"]
        groups = [{"params": decayed, "weight_decay": optim.weight_decay}]
        groups += [{"params": others, "weight_decay": 0.0}] if others else []
        if optim.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, foreach=False)
        betas = (optim.beta1, optim.beta2)
        return torch.optim.AdamW(groups, lr=optim.lr, betas=betas, eps=optim.eps, foreach=False)

    @property
    def unmatched(self) -> tuple[list[str], list[str]]:
        """Names of transformers' parameters that ck does not have, and of ck's that transformers lacks."""
        extra = sorted(self.named.keys() - self.ours.keys())
        return extra, sorted(ours for theirs, ours in self.ours.items() if theirs not in self.named)

    def load(self, weights: Mapping[str, Any], states: Mapping[str, Any], updates: int) -> None:
        """Take over weights, the optimizer's states and the number of updates that were done."""
        wide = {name: np.asarray(values, np.float64) for name, values in weights.items()}
        for name, values in self.outward.to_huggingface(self.hp, wide).items():
            self.named[name].data = self._tensor(values)
        self.optimizer.state.clear()
        if updates == 0:
            return
        for prefix, theirs in MOMENTS[self.optim.optimizer].items():
            of = {name.removeprefix(f"{prefix}."): v for name, v in states.items() if name.startswith(prefix)}
            for name, values in self.outward.to_huggingface(self.hp, of, "moment").items():
                state = self.optimizer.state[self.named[name]]
                state[theirs] = self._tensor(values)
                state["step"] = self.torch.tensor(float(updates), dtype=self.torch.float32)

    def load_gradients(self, gradients: Mapping[str, Any]) -> None:
        """Take over gradients, as if they had been accumulated here."""
        for name, values in self.outward.to_huggingface(self.hp, dict(gradients), "gradient").items():
            self.named[name].grad = self._tensor(values)

    def _tensor(self, values: NDArray[Any]) -> Any:
        return self.torch.tensor(np.ascontiguousarray(values), dtype=self.dtype)

    def nll(self, batch: Batch) -> Any:
        """-log p of each target, [B * T], 0 where none is scored; a tensor with a gradient."""
        torch = self.torch
        batch, rows = self.laid_out(batch)
        arrays = (batch.tokens, batch.targets, batch.positions)
        tokens, targets, positions = (torch.from_numpy(array.astype(np.int64)) for array in arrays)
        with computing_in(self.arithmetic):
            masks = self._masks(batch)
            output = self.model(
                input_ids=tokens, position_ids=positions, attention_mask=masks, use_cache=False
            )
            logits = output.logits.reshape(-1, self.hp.n_vocab)
            nll = torch.nn.functional.cross_entropy(
                logits, targets.reshape(-1), ignore_index=-1, reduction="none"
            )
            return nll[torch.from_numpy(rows)]

    def laid_out(self, batch: Batch) -> tuple[Batch, NDArray[np.intp]]:
        """The batch as PyTorch's model gets it, and where each of its rows is there."""
        if any(self.hp.recurrent_layers):
            return _apart(batch)
        return batch, np.arange(batch.tokens.size)

    def _masks(self, batch: Batch) -> Any:
        """What is added to the scores [B, 1, T, T]; one for each kind of layer where there are several.

        A recurrent layer has no scores, and no mask.
        """
        kinds = sorted(set(getattr(self.model.config, "layer_types", None) or ()))
        window = self.hp.sliding_window
        if not kinds:
            return self._mask(batch, window)
        widths = {"sliding_attention": window, "full_attention": 0}
        return {kind: self._mask(batch, widths[kind]) if kind in widths else None for kind in kinds}

    def _mask(self, batch: Batch, window: int) -> Any:
        length = batch.tokens.shape[1]
        places = np.arange(length, dtype=np.int32)
        t, p = places[:, None], places[None, :]
        firsts = batch.starts - length * np.arange(len(batch.starts), dtype=np.int32)[:, None]
        visible = (p <= t) & (p >= firsts[:, :, None])
        if window:
            visible &= p > t - window
        zero, hidden = self.torch.tensor(0.0, dtype=self.dtype), self.torch.tensor(-np.inf, dtype=self.dtype)
        return self.torch.where(self.torch.from_numpy(visible[:, None]), zero, hidden)

    def accumulate(self, batch: Batch, weight: float) -> float:
        """Add the gradient of weight * sum(nll) to the gradients; returns the sum of nll."""
        nll = self.nll(batch)
        with computing_in(self.arithmetic):
            (nll.sum() * weight).backward()
        return float(nll.detach().double().sum())

    def evaluate(self, batch: Batch) -> float:
        """The sum of nll; nothing is accumulated."""
        with self.torch.no_grad():
            return float(self.nll(batch).double().sum())

    def update(self, lr: float) -> float:
        """Clip, step and forget the gradients; returns their norm before clipping."""
        parameters = list(self.named.values())
        limit = self.optim.max_grad_norm or float("inf")
        norm = float(self.torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=False))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def parameters(self) -> Tensors:
        """The weights, copies."""
        found = {name: p.detach().numpy().astype(np.float64) for name, p in self.named.items()}
        return self.outward.from_huggingface(self.hp, self._known(found))

    def gradients(self) -> Tensors:
        """What has been accumulated, copies; a parameter without a gradient is left out."""
        found = {name: p.grad.numpy().copy() for name, p in self.named.items() if p.grad is not None}
        return self.outward.from_huggingface(self.hp, self._known(found), "gradient")

    def states(self) -> Tensors:
        """The optimizer's states under ck's names, copies."""
        found: Tensors = {}
        for prefix, theirs in MOMENTS[self.optim.optimizer].items():
            states = self.optimizer.state
            of = {name: states[p][theirs].numpy().copy() for name, p in self.named.items() if p in states}
            ours = self.outward.from_huggingface(self.hp, self._known(of), "moment")
            found |= {f"{prefix}.{name}": values for name, values in ours.items()}
        return found

    def _known(self, tensors: Tensors) -> Tensors:
        return {name: values for name, values in tensors.items() if name in self.ours}


def _apart(batch: Batch) -> tuple[Batch, NDArray[np.intp]]:
    """Each document of a batch as a window, and for each row of the batch its row there.

    A state that goes over rows is hidden by no mask. What stands behind a shorter document is not scored.
    """
    starts = batch.starts.reshape(-1)
    rows = np.arange(len(starts))
    firsts = np.flatnonzero(starts == rows)
    window = np.searchsorted(firsts, rows, "right") - 1
    place = rows - firsts[window]
    shape = (len(firsts), int(place.max()) + 1)
    tokens, targets, positions = (
        np.zeros(shape, np.int32),
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.int32),
    )
    for into, given in ((tokens, batch.tokens), (targets, batch.targets), (positions, batch.positions)):
        into[window, place] = given.reshape(-1)
    begins = np.repeat(np.arange(shape[0], dtype=np.int32)[:, None] * np.int32(shape[1]), shape[1], 1)
    return Batch(tokens, targets, positions, begins), window * shape[1] + place


def _model(torch: Any, hp: HyperParameters, fields: dict[str, Any]) -> Any:
    """transformers' model with random weights; the caller's random numbers are left alone."""
    from importlib import import_module

    transformers: Any = import_module("transformers")
    config = transformers.AutoConfig.for_model(**fields)
    with torch.random.fork_rng(devices=[]):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.train()
