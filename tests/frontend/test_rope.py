"""Frequencies of the rotary embedding: transformers' own, of every scaling; and what describes them."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.errors import CkError, MalformedError, UnsupportedError
from ck.frontend.architectures.outward import find_outward
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.architectures.outward.llama3 import Llama3, llama3_of
from ck.frontend.gguf import GgufFile
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_model
from ck.frontend.rope import attention_factor, frequencies
from ck.train.export.gguf_file import export_gguf
from ck.train.export.source import read_hyperparameters, source_of_gguf
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import f32, random_weights, small
from tests.frontend.raw_gguf import F32, STRING, U32, parse, text, u32

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3 = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
# Fields of a run's numbers since the first release.
OLD = ("rope_base", "rope_dims", "rope_factor", "rope_base_local")
CASES: list[tuple[str, int, float, dict[str, Any]]] = [
    ("llama", 64, 1e4, {"rope_type": "default"}),
    ("llama", 80, 1e4, {"rope_type": "linear", "factor": 2.5}),
    # Llama 3.2 1B, Llama 3.1 8B, and one with two bounds of its own.
    ("llama", 64, 5e5, LLAMA3),
    ("llama", 128, 5e5, LLAMA3 | {"factor": 8.0}),
    ("llama", 80, 1e4, LLAMA3 | {"low_freq_factor": 2.0, "high_freq_factor": 7.0}),
    ("llama", 64, 1e4, LLAMA3 | {"original_max_position_embeddings": 256, "factor": 3.0}),
    # Qwen 2.5 and 3 with their published scaling, and every number of yarn's.
    ("qwen2", 128, 1e6, YARN),
    ("qwen3", 128, 1e6, YARN),
    ("llama", 64, 1e4, YARN | {"original_max_position_embeddings": 64}),
    ("llama", 80, 1e4, YARN | {"beta_fast": 20.0, "beta_slow": 2.0, "factor": 16.0}),
    ("llama", 32, 1e4, YARN | {"original_max_position_embeddings": 4}),
    ("llama", 64, 1e4, YARN | {"attention_factor": 0.75}),
    ("llama", 64, 1e4, YARN | {"factor": 1.0}),
]  # fmt: skip


def described(arch: str, dims: int, parameters: dict[str, Any]) -> tuple[HyperParameters, Any]:
    """What ck reads from a config.json, and transformers' own configuration."""
    import transformers

    family: Any = find_outward(arch)
    hp = small(arch, d_model=4 * dims, head_dim=dims, rope_dims=dims, attention_scale=1 / math.sqrt(dims))
    fields = family.huggingface_config(hp) | {"rope_parameters": parameters}
    found = family.from_huggingface_config(ConfigReader(json.loads(json.dumps(fields)), "config.json"))
    names = {name: value for name, value in fields.items() if name not in ("model_type", "architectures")}
    return found, transformers.AutoConfig.for_model(fields["model_type"], **names)


@pytest.mark.oracle
@pytest.mark.parametrize(("arch", "dims", "base", "parameters"), CASES)
def test_frequencies_are_transformers(arch: str, dims: int, base: float, parameters: dict[str, Any]) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    hp, config = described(arch, dims, parameters | {"rope_theta": base})
    if parameters["rope_type"] == "default":
        want, factor = base ** -(np.arange(0, dims, 2) / dims), 1.0
    else:
        made, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config)
        want = made.numpy()
    got = frequencies(hp, 0)
    assert got.dtype == np.float32
    # A power, a quotient and a sum of two products, whose factors are differences, each rounded to f32.
    np.testing.assert_allclose(got, want, rtol=8 * 2**-23, atol=0)
    assert attention_factor(hp, 0) == pytest.approx(factor, rel=2**-23)


@pytest.mark.parametrize(("arch", "dims", "base", "parameters"), CASES)
def test_a_description_comes_back(arch: str, dims: int, base: float, parameters: dict[str, Any]) -> None:
    family: Any = find_outward(arch)
    hp, _ = described(arch, dims, parameters | {"rope_theta": base})
    written = json.loads(json.dumps(family.huggingface_config(hp)))
    again = family.from_huggingface_config(ConfigReader(written, "config.json"))
    np.testing.assert_allclose(frequencies(again, 0), frequencies(hp, 0), rtol=2e-5, atol=0)
    assert replace(again, rope_divisors=()) == replace(hp, rope_divisors=())


@pytest.mark.oracle
def test_gemmas_scaling_is_the_global_layers() -> None:
    """The numbers of the 4B, 12B and 27B models: window 1024, linear scaling by 8, their query scales."""
    import transformers

    family: Any = find_outward("gemma3")
    for scalar, head_dim in ((256, 256), (168, 128)):
        hp = small(
            "gemma3", n_layers=6, head_dim=head_dim, rope_dims=head_dim, sliding_window=1024,
            window_pattern=6, rope_factor=8.0, attention_scale=1 / math.sqrt(scalar),
        )  # fmt: skip
        fields = family.huggingface_config(hp)
        config = transformers.AutoConfig.for_model(
            **{k: v for k, v in fields.items() if k != "architectures"}
        )
        model: Any = transformers.AutoModelForCausalLM.from_config(config)
        rotary = model.model.rotary_emb
        for layer, kind in enumerate(config.layer_types):
            want = getattr(rotary, f"{kind}_inv_freq").numpy()
            np.testing.assert_allclose(frequencies(hp, layer), want, rtol=4 * 2**-23)
            attention = model.model.layers[layer].self_attn
            assert attention.scaling == pytest.approx(hp.attention_scale, rel=2**-23)
            assert attention.sliding_window == (1024 if hp.is_local(layer) else None)
        assert [hp.is_local(layer) for layer in range(6)] == [True] * 5 + [False]


def test_yarn_leaves_layers_with_a_window_alone() -> None:
    hp = small("gemma3", rope_scaling="yarn", rope_factor=4.0, rope_original_context=64)
    assert attention_factor(hp, 1) == pytest.approx(0.1 * math.log(4) + 1)
    assert attention_factor(hp, 0) == 1
    assert np.array_equal(frequencies(hp, 0), frequencies(small("gemma3"), 0))
    assert not np.array_equal(frequencies(hp, 1), frequencies(small("gemma3"), 1))


@pytest.mark.parametrize(
    "numbers",
    [
        Llama3(8.0, 1.0, 4.0, 8192), Llama3(32.0, 1.0, 4.0, 8192), Llama3(4.0, 1.0, 8.0, 500),
        Llama3(2.0, 1.0, 2.5, 4096),
    ],
)  # fmt: skip
def test_the_numbers_of_llama3_are_found_again(numbers: Llama3) -> None:
    assert llama3_of(numbers.divisors(5e5, 64), 5e5) == numbers


def test_divisors_that_are_not_llama3s() -> None:
    divisors = list(Llama3(8.0, 1.0, 4.0, 8192).divisors(5e5, 64))
    assert llama3_of([1.0] * 32, 5e5) is None
    assert llama3_of([*divisors[:10], 7.0, *divisors[11:]], 5e5) is None
    hp = small("llama", rope_divisors=tuple(f32(1.5 + i) for i in range(16)))
    family: Any = find_outward("llama")
    with pytest.raises(
        UnsupportedError, match=r"^llama: rope_divisors must be those of llama3's scaling for"
    ):
        family.huggingface_config(hp)


def test_numbers_of_a_run_keep_their_scaling() -> None:
    hp = small("llama", rope_divisors=(1.0, 2.5), rope_scaling="yarn", rope_original_context=64)
    record = json.loads(json.dumps(asdict(hp)))
    assert read_hyperparameters(record, "run.json") == hp
    # What older runs did not have yet.
    for name in [name for name in record if name.startswith("rope_") and name not in OLD]:
        del record[name]
    assert read_hyperparameters(record, "run.json") == small("llama")
    for wrong in ("x", [1.0, "x"], [0.0], [1.0] * 5000):
        with pytest.raises(MalformedError, match=r"^run\.json: rope_divisors must be"):
            read_hyperparameters(record | {"rope_divisors": wrong}, "run.json")


DIVIDED = Llama3(8.0, 1.0, 4.0, 64).divisors(1e4, 32)


def exported(path: Path, **changes: Any) -> GgufFile:
    """A small model as a file."""
    hp = small("llama", **changes)
    types = np.array([1] * hp.n_vocab, np.int32)
    keys = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.merges": ["0 1"],
        "tokenizer.ggml.tokens": ["0", "1", "01", *(f"<{n}>" for n in range(3, hp.n_vocab))],
        "tokenizer.ggml.token_type": types,
    }  # fmt: skip
    export_gguf(path, hp, random_weights(hp), keys, name="a name")
    return GgufFile(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_divisors": DIVIDED},
        {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 64, "rope_beta_fast": 16.0},
        {
            "rope_scaling": "yarn",
            "rope_factor": 4.0,
            "rope_original_context": 64,
            "rope_attention_factor": 0.5,
        },
    ],
)
def test_a_file_keeps_its_scaling(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    exported(path, **changes)
    assert open_model(path).hp == small("llama", **changes)
    source = source_of_gguf(path)
    assert source.weights.keys() == random_weights(source.hp).keys()
    assert len(source.weights) == len(random_weights(source.hp))


def test_a_program_is_of_its_files_divisors(tmp_path: Path) -> None:
    """They are no part of the header, by which the cache knows a program."""
    other = (2.0, *DIVIDED[1:])
    digests = {
        exported(tmp_path / f"{n}.gguf", rope_divisors=divisors).header_digest()
        for n, divisors in enumerate((DIVIDED, other))
    }
    assert len(digests) == 2


def test_divisors_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "ones.gguf"
    file = exported(path, rope_divisors=DIVIDED)
    begin = file.tensors["rope_freqs.weight"].offset
    data, header = path.read_bytes(), {"llama.rope.dimension_count": u32(16)}
    changed: list[tuple[bytes, str | None]] = [
        (np.ones(16, np.float32).tobytes(), None),
        (np.full(16, np.nan, np.float32).tobytes(), "rope_freqs.weight must hold numbers from 1e-30"),
        (np.zeros(16, np.float32).tobytes(), "rope_freqs.weight must hold numbers from 1e-30"),
    ]
    for values, words in changed:
        path.write_bytes(data[:begin] + values + data[begin + len(values) :])
        if words is None:
            assert open_model(path).hp == small("llama")
        else:
            with pytest.raises(MalformedError, match=words):
                open_model(path)
    raw = parse(data)
    for name, payload in header.items():
        raw.set(name, U32, payload)
    path.write_bytes(raw.pack())
    with pytest.raises(MalformedError, match=r"tensor rope_freqs\.weight must be \[8\], found \[16\]"):
        open_model(path)


def opened(tmp_path: Path, *keys: tuple[str, Any, bytes]) -> HyperParameters:
    """The numbers of a small file whose header has these keys too."""
    raw = parse(write_tiny(tmp_path / "tiny.gguf").read_bytes())
    for name, kind, payload in keys:
        raw.set(f"llama.rope.{name}", kind, payload)
    path = tmp_path / "changed.gguf"
    path.write_bytes(raw.pack())
    return open_model(path).hp


def real(value: float) -> bytes:
    return np.float32(value).tobytes()


KIND = ("scaling.type", STRING, text("yarn"))
FACTOR = ("scaling.factor", F32, real(4))
ORIGINAL = ("scaling.original_context_length", U32, u32(64))


def test_headers(tmp_path: Path) -> None:
    assert opened(tmp_path).rope_factor == 1
    # As in llama.cpp: a factor alone is linear; older files have another key; "none" goes before both.
    assert opened(tmp_path, FACTOR).rope_factor == 4
    assert opened(tmp_path, ("scale_linear", F32, real(2))).rope_factor == 2
    assert opened(tmp_path, FACTOR, ("scaling.type", STRING, text("none"))).rope_factor == 1
    hp = opened(tmp_path, KIND, FACTOR, ORIGINAL)
    assert (hp.rope_scaling, hp.rope_factor, hp.rope_original_context) == ("yarn", 4, 64)
    assert (hp.rope_beta_fast, hp.rope_beta_slow, hp.rope_attention_factor) == (32, 1, 1)
    assert attention_factor(hp, 0) == pytest.approx(0.1 * math.log(4) + 1)
    betas = ("scaling.yarn_beta_fast", F32, real(16)), ("scaling.yarn_beta_slow", F32, real(2))
    hp = opened(tmp_path, KIND, FACTOR, ORIGINAL, *betas, ("scaling.attn_factor", F32, real(0.5)))
    assert (hp.rope_beta_fast, hp.rope_beta_slow, hp.rope_attention_factor) == (16, 2, 0.5)
    assert attention_factor(hp, 0) == pytest.approx((0.1 * math.log(4) + 1) / 2)


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ((KIND, FACTOR), MalformedError, "rope.scaling.original_context_length"),
        ((KIND, ORIGINAL), MalformedError, "rope.scaling.factor"),
        ((KIND, FACTOR, ORIGINAL, ("freq_base", F32, real(1))), MalformedError, "freq_base must be above 1"),
        ((KIND, FACTOR, ("scaling.original_context_length", U32, u32(0))), MalformedError, "from 1 to"),
        (
            (KIND, FACTOR, ORIGINAL, ("scaling.yarn_ext_factor", F32, real(0.5))),
            UnsupportedError,
            "ext_factor",
        ),
    ],
)
def test_headers_that_are_refused(keys: Any, kind: type[CkError], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words):
        opened(tmp_path, *keys)
