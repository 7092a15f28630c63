"""Exports: what transformers and ck's own reader make of them, and what is refused."""

import json
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import ck
from ck.dtypes import BY_NAME
from ck.errors import CkError, ConflictError, MalformedError, ResourceError, UnsupportedError, UsageError
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.architectures.outward import find_outward
from ck.frontend.decays import with_decays
from ck.frontend.gguf import GgufFile
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_model
from ck.frontend.quantize import FALLBACKS, quantize_rows
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.weights import read_tensor
from ck.train.corpus import Document
from ck.train.export.gguf_file import STORAGE_TYPES, export_gguf
from ck.train.export.huggingface import FILES, export_huggingface
from ck.train.export.source import read_hyperparameters, source_of_gguf
from ck.train.tokenizer_training import TrainingTokenizer, gguf_vocabulary, train_tokenizer
from tests.frontend.random_models import N_VOCAB, random_weights, small

PROSE_FILE = Path(__file__).parents[1] / "data" / "prose.txt"
PROSE = PROSE_FILE.read_text()
CASES = [(arch, tied) for arch in ARCHITECTURES for tied in (True, False)]
# Epsilons of f32 x terms x magnitude: logits of order 3 through three layers of sums of 128 terms.
MAX_ABS = 1e-4


@pytest.fixture(scope="module")
def tokenizer() -> TrainingTokenizer:
    return train_tokenizer([Document(PROSE, PROSE_FILE, 1)], "bpe", N_VOCAB)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: TrainingTokenizer) -> dict[str, Any]:
    return gguf_vocabulary(tokenizer)


Export = Callable[..., Path]


@pytest.fixture
def to_gguf(tmp_path: Path, vocabulary: dict[str, Any]) -> Export:
    """`to_gguf(hp, storage="f32", weights=None)`: the model as a file."""

    def export(hp: HyperParameters, storage: str = "f32", weights: Any = None, **options: Any) -> Path:
        path = tmp_path / "model.gguf"
        export_gguf(
            path, hp, random_weights(hp) if weights is None else weights, vocabulary, storage, **options
        )
        return path

    return export


@pytest.fixture
def to_folder(tmp_path: Path, vocabulary: dict[str, Any], tokenizer: TrainingTokenizer) -> Export:
    """`to_folder(hp, weights=None)`: the model as a folder."""

    def export(hp: HyperParameters, weights: Any = None, **options: Any) -> Path:
        path = tmp_path / "folder"
        given = random_weights(hp) if weights is None else weights
        export_huggingface(path, hp, given, vocabulary, tokenizer.json_text, **options)
        return path

    return export


@pytest.mark.oracle
@pytest.mark.parametrize(("arch", "tied"), CASES)
def test_transformers_gives_the_logits_of_ck(
    arch: str, tied: bool, to_gguf: Export, to_folder: Export, measured: Callable[[str], None]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    hp = small(arch, tied=tied)
    ours = ck.compile(to_gguf(hp), dtype="f32", kv="f32", context_len=128)
    model, info = AutoModelForCausalLM.from_pretrained(
        to_folder(hp), output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert {values.dtype for values in model.parameters()} == {torch.float32}
    ids = ours.tokenizer.encode(PROSE)[:100]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].numpy()
    worst = float(np.abs(ours(ids) - want).max())
    measured(f"export {arch} {'tied' if tied else 'untied'}: max abs {worst:.1e} of {np.abs(want).max():.1f}")
    assert worst <= MAX_ABS
    # A window that nothing looks past, or rows in the wrong order, would pass on an even distribution.
    assert np.ptp(want) > 1


@pytest.mark.oracle
@pytest.mark.parametrize(("arch", "tied"), CASES)
def test_the_folder_is_what_transformers_itself_would_save(
    arch: str, tied: bool, to_folder: Export, tmp_path: Path
) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    folder = to_folder(small(arch, tied=tied))
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    a, b = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "theirs"))
    assert {name: a[name] for name in a if name in b} == {name: b[name] for name in a if name in b}


@pytest.mark.oracle
def test_all_tokenizers_give_the_same_ids(
    to_gguf: Export, to_folder: Export, tokenizer: TrainingTokenizer
) -> None:
    from transformers import AutoTokenizer

    hp = small("llama")
    theirs = AutoTokenizer.from_pretrained(to_folder(hp))
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.model_max_length) == (0, 0, 128)
    for text in (PROSE, "", "é<|endoftext|>\tx  y\r\n"):
        ids = theirs(text).input_ids
        assert ids == Tokenizer.from_gguf(GgufFile(to_gguf(hp, force=True))).encode(text, parse_special=True)
        assert ids == [0, *tokenizer.encode(text)]
        assert theirs.decode(ids[1:]) == text


@pytest.mark.oracle
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_weights_come_back_from_the_folder(arch: str, to_folder: Export) -> None:
    from safetensors.numpy import load_file

    hp = small(arch)
    family: Any = find_outward(arch)
    back = family.from_huggingface(hp, load_file(to_folder(hp) / "model.safetensors"))
    assert all(np.array_equal(back[name], values) for name, values in random_weights(hp).items())


@pytest.mark.parametrize(
    "hp",
    [
        *(small(arch, tied=tied) for arch, tied in CASES),
        small("llama", rope_base=5e5, rope_base_local=5e5, rope_factor=8.0, rope_dims=16),
        small("gemma3", rope_base_local=12345.0, rope_factor=2.5, window_pattern=1, sliding_window=7),
        small("llama", rope_factor=3.0).with_window(7),
        small("qwen2", rope_factor=3.5, n_layers=5).with_window(7, first=2),
        small("qwen3", rope_factor=4.5, n_layers=5).with_window(7, pattern=2),
    ],
    ids=lambda hp: f"{hp.arch}-{hp.tied}-{hp.rope_factor}",
)
def test_a_file_reads_back_as_the_same_model(hp: HyperParameters, to_gguf: Export) -> None:
    source = open_model(to_gguf(hp, name="a name"))
    hp, weights = with_decays(hp, random_weights(hp), logarithms=False)
    assert source.hp == hp
    assert source.file.name == "a name"
    for name, values in weights.items():
        assert np.array_equal(read_tensor(source.file, name), values), name


@pytest.mark.parametrize("storage", [name for name in STORAGE_TYPES if BY_NAME[name].block < 256])
def test_matrices_are_stored_as_asked_and_vectors_as_f32(storage: str, to_gguf: Export) -> None:
    hp = small("gemma3", tied=False)
    file = open_model(to_gguf(hp, storage)).file
    assert file.metadata.integer("general.file_type") == STORAGE_TYPES[storage]
    for name, values in random_weights(hp).items():
        assert file.tensors[name].storage.name == (storage if values.ndim > 1 else "f32")
        kind = gguf.GGMLQuantizationType(BY_NAME[file.tensors[name].storage.name].ggml_id)
        want = gguf.dequantize(quantize_rows(values, file.tensors[name].storage), kind)
        assert np.array_equal(read_tensor(file, name), want), name


@pytest.mark.parametrize(("storage", "instead"), FALLBACKS.items())
def test_k_types_fall_back_where_rows_do_not_fit(storage: str, instead: str, to_gguf: Export) -> None:
    file = open_model(to_gguf(small("llama", d_ffn=256), storage)).file
    assert file.metadata.integer("general.file_type") == STORAGE_TYPES[storage]
    found = {name: file.tensors[f"blk.0.{name}.weight"].storage.name for name in ("ffn_down", "ffn_up")}
    assert found == {"ffn_down": storage, "ffn_up": instead}
    want = random_weights(small("llama", d_ffn=256))["blk.0.ffn_down.weight"]
    errors = (read_tensor(file, "blk.0.ffn_down.weight") - want) ** 2
    limits = {"q6_k": 0.001, "q5_k": 0.003, "q4_k": 0.012, "iq4_xs": 0.012, "q3_k": 0.04, "q2_k": 0.16}
    assert errors.sum() <= limits[storage] * (want**2).sum()


def test_a_file_is_a_source_of_exports(to_gguf: Export, tmp_path: Path, tokenizer: TrainingTokenizer) -> None:
    hp = small("llama")
    source = source_of_gguf(to_gguf(hp, "q8_0", name="first"))
    assert (source.name, source.step, source.hp) == ("first", None, hp)
    export_gguf(tmp_path / "again.gguf", source.hp, source.weights, source.vocabulary, name="first")
    again = open_model(tmp_path / "again.gguf").file
    first = GgufFile(tmp_path / "model.gguf")
    assert {key: str(first.metadata[key]) for key in first.metadata if key != "general.file_type"} == {
        key: str(again.metadata[key]) for key in again.metadata if key != "general.file_type"
    }
    assert all(np.array_equal(read_tensor(again, name), read_tensor(first, name)) for name in first.tensors)
    assert json.loads(source.tokenizer_json)["model"]["vocab"] == {
        text: id for id, text in enumerate(tokenizer.tokens)
    }


def with_value(name: str, value: float) -> dict[str, Any]:
    weights = random_weights(small("llama"))
    weights[name][-1] = value
    return weights


REFUSALS = [
    (small("llama", d_ffn=80), "q8_0", None, UsageError,
     "blk.0.ffn_down.weight: rows must be multiples of 32 to be stored as q8_0, found 80; choose f32, f16"),
    (small("llama"), "iq3_s", None, UsageError, "storage type: must be one of f32, f16, bf16, q8_0, q5_1, "),
    (small("llama"), "f16", with_value("output_norm.weight", 1e6), None, ""),
    (small("llama"), "f16", with_value("blk.1.attn_q.weight", -7e4), UnsupportedError,
     "blk.1.attn_q.weight: must be below 65504 to be stored as f16, found 70000.0; choose bf16"),
    (small("llama"), "f32", with_value("blk.1.attn_q.weight", np.nan), MalformedError,
     "blk.1.attn_q.weight: must hold finite numbers only, found others"),
    (small("llama"), "f32", random_weights(small("llama", d_ffn=64)), MalformedError,
     "blk.0.ffn_gate.weight: must be [96, 64], found [64, 64]"),
    (small("llama"), "f32", random_weights(small("llama", tied=False)), MalformedError,
     "output.weight: must be no tensor of the model, found 21 of 20"),
    (small("llama", tied=False), "f32", random_weights(small("llama")), MalformedError,
     "output.weight: must be a tensor of the model, found 20 of 21"),
    (small("llama", attention_scale=0.5), "f32", None, UnsupportedError,
     "model.gguf: attention_scale must be 0.17677669529663687 in a GGUF file of this family, found 0.5"),
    (small("llama", head_dim=24, rope_dims=24, attention_scale=24**-0.5), "bf16", None, None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("hp", "storage", "weights", "kind", "words"), REFUSALS)
def test_refusals(
    hp: HyperParameters, storage: str, weights: Any, kind: type[CkError] | None, words: str,
    to_gguf: Export, tmp_path: Path,
) -> None:  # fmt: skip
    if kind is None:
        assert open_model(to_gguf(hp, storage, weights)).hp.arch == hp.arch
        return
    with pytest.raises(kind) as caught:
        to_gguf(hp, storage, weights)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(words)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_size_is_refused(to_gguf: Export, to_folder: Export, tmp_path: Path) -> None:
    for export in (to_gguf, to_folder):
        with pytest.raises(
            MalformedError, match=r"^tokenizer: must have 400 tokens, one a row of .*, found 317$"
        ):
            export(small("llama", n_vocab=400))
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_that_ck_cannot_read_is_refused(vocabulary: dict[str, Any], tmp_path: Path) -> None:
    hp, keys = small("llama"), {**vocabulary, "tokenizer.ggml.merges": ["no pair"]}
    with pytest.raises(MalformedError, match="merge 0 must be of tokens, no is none"):
        export_gguf(tmp_path / "x.gguf", hp, random_weights(hp), keys)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def room_for(n_bytes: int) -> Generator[None]:
    """The system refuses to let a file grow past `n_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [0, 3000, 200_000])
def test_a_full_disk_leaves_everything_as_it_was(
    n_bytes: int, to_gguf: Export, to_folder: Export, tmp_path: Path
) -> None:
    hp, full = small("llama"), "needs room on its disk, file too large; free some, "
    for export in (to_gguf, to_folder):
        with room_for(n_bytes), pytest.raises(ResourceError, match=f"{full}nothing was saved"):
            export(hp)
    assert not list(tmp_path.iterdir())
    file, folder = to_gguf(hp), to_folder(hp)
    before = {path: path.read_bytes() for path in (file, *folder.iterdir())}
    for export in (to_gguf, to_folder):
        with room_for(n_bytes), pytest.raises(ResourceError, match=f"{full}what was there is intact"):
            export(hp, weights=random_weights(hp, 7), force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_is_replaced_unless_told(to_gguf: Export, to_folder: Export, tmp_path: Path) -> None:
    hp = small("llama")
    file, folder = to_gguf(hp), to_folder(hp)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    with pytest.raises(
        ConflictError, match=r"model\.gguf: must be a new file, found one; choose another name"
    ):
        to_gguf(hp)
    with pytest.raises(
        ConflictError, match=r"folder: must be empty, found config\.json; choose another name"
    ):
        to_folder(hp)
    other = random_weights(hp, 7)
    to_gguf(hp, weights=other, force=True)
    to_folder(hp, weights=other, force=True)
    assert np.array_equal(read_tensor(GgufFile(file), "token_embd.weight"), other["token_embd.weight"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model.gguf"]
    (folder / "letter.txt").write_text("mine")
    with pytest.raises(ConflictError, match=r"--force replaces an earlier export only, found letter\.txt"):
        to_folder(hp, force=True)
    assert (folder / "letter.txt").read_text() == "mine"


def test_a_place_that_cannot_be(vocabulary: dict[str, Any], tmp_path: Path, to_folder: Export) -> None:
    hp = small("llama")
    with pytest.raises(UsageError, match=r"no/x: must lie in a directory that exists, found no .*no$"):
        export_gguf(tmp_path / "no" / "x", hp, random_weights(hp), vocabulary)
    with pytest.raises(UsageError, match=r"no/x: must lie in a directory that exists, found no .*no$"):
        export_huggingface(tmp_path / "no" / "x", hp, random_weights(hp), vocabulary, "{}")
    (tmp_path / "folder").write_text("a file in the way")
    with pytest.raises(ConflictError, match="folder: must be a directory or nothing, found something else"):
        to_folder(hp, force=True)
    (tmp_path / "folder").unlink()
    (tmp_path / "folder").mkdir()
    assert len(list(to_folder(hp).iterdir())) == len(FILES)


def test_a_chat_template_goes_along(vocabulary: dict[str, Any], tmp_path: Path) -> None:
    hp = small("llama")
    keys = {**vocabulary, "tokenizer.chat_template": "{{ messages }}"}
    export_gguf(tmp_path / "x.gguf", hp, random_weights(hp), keys)
    source = source_of_gguf(tmp_path / "x.gguf")
    export_huggingface(tmp_path / "x", hp, source.weights, source.vocabulary, source.tokenizer_json)
    config = json.loads((tmp_path / "x" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == "{{ messages }}"


@pytest.mark.parametrize("hp", [*map(small, ARCHITECTURES), small("llama").with_window(7)])
def test_numbers_of_a_run_come_back(hp: HyperParameters) -> None:
    assert read_hyperparameters(json.loads(json.dumps(asdict(hp))), "run.json") == hp
    whole = asdict(hp) | {"rope_base": 10000}
    assert isinstance(read_hyperparameters(whole, "run.json").rope_base, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_layers": 10**9}, "n_layers must be a whole number in range, found 1000000000"),
        ({"n_heads": 0}, "n_heads must be a whole number in range, found 0"),
        ({"n_heads": True}, "n_heads must be a whole number in range, found True"),
        ({"n_kv_heads": 3}, "n_kv_heads must divide the 4 heads, found 3"),
        ({"rms_eps": float("nan")}, "rms_eps must be finite and above 0, found nan"),
        ({"tied": 1}, "tied must be true or false, found 1"),
        ({"arch": None}, "arch must be a string, found None"),
    ],
)
def test_broken_numbers_of_a_run_are_refused(changes: dict[str, Any], words: str) -> None:
    record = asdict(small("gemma3")) | changes
    with pytest.raises(MalformedError, match=rf"^run\.json: {words}$"):
        read_hyperparameters(record, "run.json")


def test_missing_numbers_of_a_run_are_refused() -> None:
    record = asdict(small("gemma3"))
    del record["d_ffn"]
    with pytest.raises(MalformedError, match=r"^run\.json: hyperparameters must have d_ffn, found none$"):
        read_hyperparameters(record, "run.json")
    with pytest.raises(
        MalformedError, match=r"^run\.json: hyperparameters must be an object, found NoneType$"
    ):
        read_hyperparameters(None, "run.json")
