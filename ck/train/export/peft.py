"""Adapters as a folder that the package PEFT loads: ck/frontend/huggingface/peft.py has the format."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ck.errors import ConflictError
from ck.frontend.adapters import Adapters
from ck.frontend.architectures import find_architecture
from ck.frontend.huggingface.peft import CONFIG, TENSORS, peft_config, to_peft
from ck.frontend.hyperparameters import HyperParameters
from ck.train.export.checks import check_parent
from ck.train.files import replacing
from ck.train.rundir import output_errors
from ck.train.tensor_file import tensor_file


def export_peft(
    directory: Path,
    hp: HyperParameters,
    adapters: Adapters,
    tensors: Mapping[str, NDArray[np.float32]],
    base: str,
    *,
    force: bool = False,
) -> None:
    """Write adapters of the model `hp`, which is called `base`, to the folder `directory`.

    Raises ConflictError when something is in the folder, unless it is an earlier export and `force` is given,
    ResourceError, MachineError.
    """
    architecture = find_architecture(hp.arch)
    assert architecture is not None
    values = to_peft(hp, adapters, architecture.tensor_shapes(hp), tensors)
    check_parent(directory)
    if os.path.lexists(directory):
        found = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else [directory.name]
        foreign = [name for name in found if not force or name not in (CONFIG, TENSORS)]
        if foreign:
            raise ConflictError(
                f"{directory}: must be new, empty or with --force an earlier export, found {foreign[0]}"
            )
    with output_errors(directory):
        directory.mkdir(exist_ok=True)
    with output_errors(directory / TENSORS), replacing(directory / TENSORS) as file:
        shapes = {name: tensor.shape for name, tensor in values.items()}
        file.writelines(tensor_file(shapes, values.values(), {"format": "pt"}))
    # Last: without it the folder is no adapter.
    with output_errors(directory / CONFIG), replacing(directory / CONFIG) as file:
        file.write((json.dumps(peft_config(hp, adapters, base), indent=2) + "\n").encode())
