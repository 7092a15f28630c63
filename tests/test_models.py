"""A cut model is what it claims: the source's bytes, fewer of them."""

from collections.abc import Callable
from pathlib import Path

from gguf import GGUFReader

from tests.models import model_path


def test_a_cut_keeps_the_bytes_of_its_layers(cut: Callable[..., Path]) -> None:
    name, n_layers, n_vocab = "smollm2-135m", 2, 4096
    whole = {tensor.name: tensor for tensor in GGUFReader(model_path(name)).tensors}
    kept = {key for key in whole if not key.startswith("blk.") or int(key.split(".")[1]) < n_layers}
    reader = GGUFReader(cut(name, n_layers, n_vocab))
    parts = {tensor.name: tensor for tensor in reader.tensors}
    assert set(parts) == kept
    for key, part in parts.items():
        assert part.tensor_type == whole[key].tensor_type
        assert part.data.tobytes() == whole[key].data[: part.data.shape[0]].tobytes()
        assert part.data.shape[0] == (n_vocab if key == "token_embd.weight" else whole[key].data.shape[0])
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == n_vocab
