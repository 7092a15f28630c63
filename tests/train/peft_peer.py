"""The package PEFT beside ck: transformers' model of a family with PEFT's adapters, in PyTorch."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from ck.frontend.huggingface.peft import peft_config, to_peft
from ck.frontend.template import Template
from ck.train.config import OptimConfig
from ck.train.parity.peer import Peer
from ck.train.parity.pytorch import Arithmetic

Floats = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


def adapted_peer(
    template: Template, base: Floats, tensors: Floats, optim: OptimConfig, arithmetic: Arithmetic = "f32"
) -> Peer:
    """A `Peer` that trains adapters alone: its `named` parameters are PEFT's, under PEFT's names."""
    adapters = template.adapters
    assert adapters is not None
    peer = Peer(replace(template, adapters=None), optim, arithmetic)
    peer.load(base, {}, 0)
    peft: Any = import_module("peft")
    fields = peft_config(template.hp, adapters, "base") | {
        "inference_mode": False,
        "base_model_name_or_path": None,
    }
    peer.model = peft.get_peft_model(peer.model, peft.LoraConfig(**fields)).train()
    trained = {name: p for name, p in peer.model.named_parameters() if p.requires_grad}
    peer.named = {name.replace(".default", ""): p for name, p in trained.items()}
    given = to_peft(template.hp, adapters, template.shapes, dict(tensors))
    assert peer.named.keys() == given.keys()
    for name, values in given.items():
        peer.named[name].data = peer.torch.tensor(values, dtype=peer.dtype)
    peer.optimizer = peer._optimizer()
    return peer


def theirs(template: Template, tensors: Floats) -> dict[str, Any]:
    """ck's tensors of adapters, or their gradients, under PEFT's names and in its order."""
    assert template.adapters is not None
    return to_peft(template.hp, template.adapters, template.shapes, dict(tensors))


def gradients(peer: Peer) -> dict[str, Any]:
    """What has been accumulated, copies."""
    return {name: p.grad.numpy().copy() for name, p in peer.named.items() if p.grad is not None}
