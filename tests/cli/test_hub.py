"""The verbs and the hub: pull, ls, show, cache, --locked, and show of what ck cannot run."""

import json
import os
import struct
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

import ck
from ck.cli import doctor
from ck.frontend.gguf import GgufFile
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_file
from ck.frontend.template import template_from
from ck.runtime.adapted_model import AdaptedModel
from ck.runtime.resolve import resolve_adapter, resolve_model
from ck.train.base import open_base
from tests.frontend.folders import write_folder
from tests.frontend.make_gguf import write_tiny
from tests.frontend.random_models import small
from tests.runtime.hub_fixtures import TOKEN, use_hub
from tests.runtime.hub_server import COMMIT, HubServer, Repository

NEXT = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def hub(tmp_path: Path, ck_main: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model that works, in two revisions' names."""
    tiny = write_tiny(tmp_path / "tiny.gguf").read_bytes()
    with HubServer({"org/tiny": Repository({"tiny-F32.gguf": tiny, "README.md": b"# it"})}) as server:
        use_hub(server, tmp_path / "home", monkeypatch)
        yield server


def test_pull_prints_the_path(hub: HubServer, ck_main: Any, tmp_path: Path) -> None:
    result = ck_main("pull", "org/tiny:F32")
    path = tmp_path / "home/hf/hub/models--org--tiny/snapshots" / COMMIT / "tiny-F32.gguf"
    assert (result.code, result.out) == (0, f"{path}\n")
    assert path.read_bytes() == (tmp_path / "tiny.gguf").read_bytes()
    data = json.loads(ck_main("pull", "hf://org/tiny@main", "--json").out)
    assert (data["name"], data["path"], data["hub"]["commit"]) == ("hf://org/tiny@main", str(path), COMMIT)
    assert ck_main("pull", "org/tiny", "--adapter").err.startswith("ck: hf://org/tiny: an adapter must have")


def test_a_dry_run_says_what_a_pull_would_fetch(
    hub: HubServer, ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/folder"] = Repository({"config.json": b"{}", "model.safetensors": bytes(15000)})
    assert ck_main("pull", "org/folder", "--dry-run") == (0, (
        f"hf://org/folder: would fetch 2 files, 15 kB, of org/folder@{COMMIT}\n"
        "config.json        2 bytes  to fetch\n"
        "model.safetensors  15 kB    to fetch\n"
    ), "")  # fmt: skip
    known = ck_main("pull", "gemma3-270m", "--dry-run")
    assert (known.code, known.out.startswith("gemma3-270m: would fetch 1 files, 2")) == (0, True)
    assert not (tmp_path / "home").exists()
    assert hub.kinds() == ["info"]
    ck_main("pull", "org/folder")
    blob = next((tmp_path / "home").rglob("model.safetensors")).resolve()
    assert (
        ck_main("pull", "org/folder", "--dry-run")
        .out.splitlines()[0]
        .endswith(f" 0 files, 0 bytes, of org/folder@{COMMIT}")
    )
    # What an earlier fetch left is not fetched again.
    blob.rename(f"{blob}.ck.incomplete")
    os.truncate(f"{blob}.ck.incomplete", 10000)
    before = sorted((tmp_path / "home").rglob("*"))
    data = json.loads(ck_main("pull", "org/folder", "--dry-run", "--json").out)
    assert data == {
        "schema_version": 1, "name": "hf://org/folder", "revision": f"org/folder@{COMMIT}", "n_bytes": 5000,
        "files": [
            {"name": "config.json", "n_bytes": 2, "here": True},
            {"name": "model.safetensors", "n_bytes": 15000, "here": False},
        ],
        "dry_run": True,
    }  # fmt: skip
    assert sorted((tmp_path / "home").rglob("*")) == before
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ck_main("pull", "org/folder", "--dry-run").code == ck_main("pull", "org/folder").code == 7


def test_what_fails_is_one_line_with_its_code(hub: HubServer, ck_main: Any) -> None:
    for name, code, words in [
        ("hf://org/none", 7, "has no such repository, or it is private and HF_TOKEN is not set"),
        ("hf://org/tiny/x.gguf", 7, "has no file x.gguf; it has tiny-F32.gguf"),
        ("hf://gpt2", 2, "a repository must be named ORG/NAME"),
        ("hf://datasets/org/tiny", 4, "a model is required, datasets hold none"),
        ("https://example.org/x.gguf?sig=s3cr3t", 4, "models are fetched from the hub alone"),
    ]:
        result = ck_main("pull", name)
        assert ck_main("pull", name, "--dry-run") == result
        assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
        assert words in result.err
        assert "s3cr3t" not in result.err


def test_ls_shows_what_the_hub_cache_has(hub: HubServer, ck_main: Any, tmp_path: Path) -> None:
    ck_main("pull", "org/tiny")
    folder = tmp_path / "home/hf/hub/models--org--folder/snapshots" / NEXT
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    (tmp_path / "home/hf/hub/models--org--half/snapshots" / NEXT).mkdir(parents=True)
    rows = json.loads(ck_main("ls", "--json").out)["models"][2:]
    assert [(row["name"], row["commit"]) for row in rows] == [
        (f"hf://org/folder@{NEXT}", NEXT),
        ("hf://org/tiny/tiny-F32.gguf", COMMIT),
    ]
    # Each name leads back to its path, without the hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        for row in rows:
            assert ck_main("pull", row["name"]).out == f"{row['path']}\n"
        assert ck_main("ls", "-q").out.splitlines() == [row["name"] for row in rows]
    finally:
        del os.environ["HF_HUB_OFFLINE"]


def test_show_says_where_a_model_is_from(hub: HubServer, ck_main: Any) -> None:
    result = ck_main("show", "org/tiny", "-c", "100")
    assert result.code == 0
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines() if not line.startswith(" "))
    assert rows["fetched"] == f"org/tiny at commit {COMMIT}"
    assert rows["memory"].endswith("for 100 tokens")
    facts = json.loads(ck_main("show", "org/tiny", "--json").out)
    assert (facts["hub"]["repo"], facts["supported"]) == ("org/tiny", True)
    assert "tensors" not in facts


def test_run_locked_refuses_a_revision_that_moved(
    hub: HubServer, ck_main: Any, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    calls = stand_in()
    assert ck_main("run", "org/tiny", "--locked", "-p", "hi").code == 2
    assert ck_main("run", "org/tiny", "-p", "hi").code == 0
    assert ck_main("run", "org/tiny", "--locked", "-p", "hi").code == 0
    hub.repositories["org/tiny"].commit = NEXT
    result = ck_main("run", "org/tiny", "--locked", "-p", "hi")
    assert (result.code, result.out) == (9, "")
    assert f"with --locked main must be {COMMIT[:12]}, it is commit {NEXT[:12]}" in result.err
    assert len(calls) == 2


def test_a_program_keeps_the_commit(hub: HubServer, ck_main: Any) -> None:
    model = ck.compile("org/tiny", backend="llvm")
    record = json.loads((Path(model.info["directory"]) / "run.json").read_text())
    assert record["model"]["hub"]["commit"] == COMMIT
    assert len(record["model"]["hub"]["files"]["tiny-F32.gguf"]) == 64


def test_cache_verifies_removes_and_prunes(hub: HubServer, ck_main: Any, tmp_path: Path) -> None:
    path = Path(ck_main("pull", "org/tiny").out.strip())
    assert ck_main("cache", "verify").out == "1 checked, 0 damaged\n"
    entries = json.loads(ck_main("cache", "ls", "--json").out)["entries"]
    assert [(entry["kind"], entry["name"]) for entry in entries] == [
        ("models", "org--tiny"),
        ("hub", "org/tiny"),
    ]
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[::-1])
    result = ck_main("cache", "verify")
    assert (result.code, result.out) == (3, f"damaged: {blob}\n1 checked, 1 damaged\n")
    assert json.loads(ck_main("cache", "verify", "--json").out)["damaged"] == [str(blob)]
    assert ck_main("cache", "rm", "org/other").code == 2
    assert ck_main("cache", "rm", "org/tiny", "--dry-run").out.startswith("would delete 1 entries")
    assert path.exists()
    assert ck_main("cache", "rm", "org/tiny").code == 0
    assert not path.exists()
    assert json.loads(ck_main("cache", "ls", "--json").out)["entries"] == []
    part = tmp_path / "home/hf/hub/models--org--tiny/blobs/abc.ck.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(10))
    assert ck_main("cache", "prune").out.startswith("deleted 0 entries")
    assert ck_main("cache", "prune", "partial").out.startswith("deleted 1 entries")
    assert not part.exists()


def test_a_folder_of_the_hub_is_a_folder(hub: HubServer, ck_main: Any, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", small("llama"))
    hub.repositories["org/folder"] = Repository({p.name: p.read_bytes() for p in folder.iterdir()})
    fetched, here = open_file(resolve_model("org/folder")), open_file(folder)
    assert fetched.name == here.name == "folder"
    assert fetched.tensors.keys() == here.tensors.keys()
    for name, tensor in here.tensors.items():
        rows = 0, tensor.shape[0]
        assert np.array_equal(fetched.rows(name, *rows), here.rows(name, *rows))
    # A file of the cache that is gone is a link to nothing.
    os.unlink(os.path.realpath(resolve_model("org/folder") / "config.json"))
    assert ck_main("show", "org/folder").code == 0


def adapter_of(hp: HyperParameters) -> dict[str, bytes]:
    """The files of an adapter of the first layer's queries."""
    weight = "base_model.model.model.layers.0.self_attn.q_proj"
    rows, columns = template_from(hp).shapes["blk.0.attn_q.weight"]
    tensors = {
        f"{weight}.lora_A.weight": np.ones((2, columns), np.float32),
        f"{weight}.lora_B.weight": np.ones((rows, 2), np.float32),
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(tensors)}


def test_other_verbs_take_the_same_names(hub: HubServer, ck_main: Any, tmp_path: Path) -> None:
    hp = open_file(tmp_path / "tiny.gguf").hyperparameters()
    hub.repositories["org/adapter"] = Repository(adapter_of(hp))
    record = open_base("org/tiny:F32").record()
    assert (record["hub"]["commit"], record["path"]) == (COMMIT, str(resolve_model("org/tiny").resolve()))
    words = ("export", "org/tiny", "--to", "gguf", "-o")
    assert ck_main(*words, "plain.gguf").code == 0
    assert ck_main(*words, "merged.gguf", "--adapter", "org/adapter").code == 0
    plain, merged = (GgufFile(tmp_path / name) for name in ("plain.gguf", "merged.gguf"))
    both = [file.raw("blk.0.attn_q.weight").view(np.float32) for file in (plain, merged)]
    assert np.allclose(both[1] - both[0], 2, atol=1e-6)
    adapted = AdaptedModel(open_file(tmp_path / "tiny.gguf"), resolve_adapter("org/adapter"))
    assert np.array_equal(adapted.rows("blk.0.attn_q.weight", 0, 64).view(np.float32), both[1])
    assert ck_main("run", "org/tiny", "-p", "x", "--adapter", "org/tiny").code == 7


def test_doctor_looks_at_what_fetching_takes(
    hub: HubServer, ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.check_hub().status == "ok"
    assert str(tmp_path / "home/hf/hub") in doctor.check_hub().found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub().found.endswith(" GB free, offline")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.5.0")
    assert doctor.check_hub().status == "warning"
    assert hub.asked == []

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert doctor.check_hub()[1:] == (
        "warning",
        "huggingface_hub is missing: nothing can be fetched from the hub",
        "run: pip install 'ck-engine[hub]'",
    )


def changed(path: Path, old: bytes, new: bytes) -> Path:
    """The file with the first `old` replaced."""
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


def test_show_of_a_family_that_ck_does_not_have(ck_main: Any, tmp_path: Path) -> None:
    value = struct.pack("<IQ", 8, 5)
    path = changed(write_tiny(tmp_path / "x.gguf"), value + b"llama", value + b"other")
    result = ck_main("show", str(path))
    assert result.code == 4
    assert "the architecture must be one of" in result.err
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines() if not line.startswith(" "))
    assert (rows["name"], rows["supported"], rows["type"]) == ("tiny", "no", "other")
    assert rows["tokenizer"].startswith("pieces")
    assert "  f32" in result.out


def test_show_of_a_type_that_ck_does_not_read(ck_main: Any, tmp_path: Path) -> None:
    name = b"blk.0.attn_q.weight" + struct.pack("<IQQ", 2, 64, 64)
    path = changed(write_tiny(tmp_path / "x.gguf"), name + struct.pack("<I", 0), name + struct.pack("<I", 16))
    result = ck_main("show", str(path))
    assert result.code == 4
    assert "tensor blk.0.attn_q.weight is stored as iq2_xxs" in result.err
    assert "  iq2_xxs  1 tensors" in result.out
    facts = json.loads(ck_main("show", str(path), "--json").out)
    assert (facts["supported"], facts["name"], facts["n_tensors"]["iq2_xxs"]) == (False, "tiny", 1)
    assert "iq2_xxs" in facts["reason"]
    assert ck_main("show", str(path), "--template").code == 4


def test_show_of_a_folder_that_ck_cannot_run(ck_main: Any, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "config.json").write_text(
        '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}'
    )
    (tmp_path / "f" / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    result = ck_main("show", str(tmp_path / "f"))
    assert result.code == 4
    assert [line.split() for line in result.out.splitlines()][-2:] == [["type", "gpt2"], ["supported", "no"]]
    assert "gpt2" in result.err
