"""What models say of sampling: where it is read, what is refused, what the user's settings leave of it."""

import json
from pathlib import Path
from typing import Any

import pytest

import ck
from ck.errors import CkWarning, MalformedError, UsageError
from ck.frontend.model import open_file
from ck.frontend.sampling_defaults import SamplingDefaults, read_generation_sampling, read_gguf_sampling
from ck.runtime.samplers.params import ORDER
from ck.runtime.sampling import settle
from tests.frontend.folders import write_folder
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import small

PREFIX = "general.sampling."
EVERY: dict[str, Any] = {
    "sequence": "top_k;temp", "temp": 0.6, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "xtc_probability": 0.5,
    "xtc_threshold": 0.2, "penalty_last_n": 32, "penalty_repeat": 1.1, "mirostat": 2, "mirostat_tau": 4.0,
    "mirostat_eta": 0.2,
}  # fmt: skip
OURS: dict[str, Any] = {
    "samplers": "top_k;temp", "temp": 0.6, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "xtc_probability": 0.5,
    "xtc_threshold": 0.2, "repeat_last_n": 32, "repeat_penalty": 1.1, "mirostat": 2, "mirostat_tau": 4.0,
    "mirostat_eta": 0.2,
}  # fmt: skip


def test_a_gguf_files_keys(tmp_path: Path) -> None:
    extra = {PREFIX + name: value for name, value in EVERY.items()}
    found = open_file(write_tiny(tmp_path / "m.gguf", extra=extra)).sampling
    assert found == SamplingDefaults("general.sampling.* of m.gguf", OURS)
    assert open_file(write_tiny(tmp_path / "plain.gguf")).sampling is None
    params = settle({"top_k": 5}, found)
    assert (params.temp, params.top_k, params.samplers) == (0.6, 5, ("top_k", "temperature"))
    assert (params.repeat_last_n, params.dry_base) == (32, 1.75)


GENERATION: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({}, None),
    ({"eos_token_id": 2, "max_new_tokens": 9}, None),
    (
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "do_sample": True},
        {"temp": 0.7, "top_k": 20, "top_p": 0.8},
    ),
    (
        {"typical_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.05},
        {"typ_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.05},
    ),
    ({"temperature": None, "top_k": 64.0}, {"top_k": 64}),
    ({"temperature": 1}, {"temp": 1.0}),
    ({"do_sample": False}, {"temp": 0.0}),
    (
        {"do_sample": False, "temperature": 0.7, "repetition_penalty": 1.1},
        {"temp": 0.0, "repeat_penalty": 1.1},
    ),
]


@pytest.mark.parametrize(("config", "wanted"), GENERATION, ids=str)
def test_a_generation_config(config: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    found = read_generation_sampling(config, "g")
    assert (None if found is None else dict(found.values)) == wanted


def test_a_folders_file(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "folder", small("llama"))
    assert open_file(path).sampling is None
    (path / "generation_config.json").write_text(json.dumps({"temperature": 0.3}))
    found = open_file(path).sampling
    assert found == SamplingDefaults("folder/generation_config.json", {"temp": 0.3})
    assert found.line({}) == "temp 0.3 from folder/generation_config.json"
    hostile = SamplingDefaults("m", {"samplers": "\x1b[2Jtop_k"})
    assert "\x1b" not in hostile.line({})
    assert found.line({"temp": 1.0}) == (
        "nothing from folder/generation_config.json; in place of its temp 0.3 what was given"
    )


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"temp": "warm"}, "m: general.sampling.temp: must be a finite number, found warm"),
    ({"temp": float("nan")}, "m: general.sampling.temp: must be a finite number, found nan"),
    ({"temp": True}, "m: general.sampling.temp: must be a finite number, found true"),
    ({"temp": 1e39}, "m: general.sampling.temp: must be a finite number, found 1e+39"),
    ({"top_k": 10**400}, "m: general.sampling.top_k: must be a whole number, found 10000"),
    ({"top_k": 1.5}, "m: general.sampling.top_k: must be a whole number, found 1.5"),
    ({"top_k": float("inf")}, "m: general.sampling.top_k: must be a whole number, found inf"),
    ({"sequence": 3}, "m: general.sampling.sequence: must be a text, found 3"),
]


@pytest.mark.parametrize(("given", "words"), MALFORMED, ids=str)
def test_what_is_no_number_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_gguf_sampling({PREFIX + name: value for name, value in given.items()}, "m")
    assert str(caught.value).startswith(words)


def test_what_is_out_of_range_is_the_models_fault() -> None:
    with pytest.raises(
        MalformedError, match=r"^m: top_p: must be from 0 to 1, got 3.0; --no-model-sampling or"
    ):
        settle({}, SamplingDefaults("m", {"top_p": 3.0}))
    with pytest.raises(UsageError, match=r"^top_p: must be from 0 to 1, got 3.0$"):
        settle({"top_p": 3.0}, SamplingDefaults("m", {"temp": 1.0}))


def test_samplers_that_ck_does_not_have_are_left_out() -> None:
    with pytest.warns(CkWarning, match="m: sampler 'infill' is none of ck's and left out"):
        params = settle({}, SamplingDefaults("m", {"samplers": "top_k;infill;temp"}))
    assert params.samplers == ("top_k", "temperature")
    with pytest.warns(CkWarning):
        assert settle({}, SamplingDefaults("m", {"samplers": "adaptive_p"})).samplers == ORDER


def test_a_models_settings_count_in_python(tmp_path: Path) -> None:
    extra = {PREFIX + "top_k": 1, PREFIX + "penalty_repeat": 1.0}
    model = ck.compile(write_tiny(tmp_path / "m.gguf", pairs=True, extra=extra), context_len=128, chunk=16)
    likeliest = model.generate("ab", 12, temp=0, ignore_eos=True)
    assert model.generate("ab", 12, seed=1, temp=5.0, ignore_eos=True) == likeliest
    drawn = model.generate("ab", 12, seed=1, temp=5.0, ignore_eos=True, model_sampling=False)
    assert drawn != likeliest
    assert model.generate("ab", 12, seed=1, temp=5.0, ignore_eos=True, top_k=40) == drawn
    assert model.generate("ab", 12, temp=0, ignore_eos=True, stop=[likeliest[2:4]]) == likeliest[:2]
    with pytest.raises(UsageError, match="dry_base: must be 1 or more"):
        model.generate("ab", dry_base=0.5)
