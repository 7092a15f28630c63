"""Pulling by name from a directory of small wheels, what is refused, and what is never left behind."""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from ck.errors import MachineError, MalformedError, NetworkError, ResourceError, UnsupportedError, UsageError
from ck.runtime import fetch, resolve
from ck.runtime.known_models import KnownModel, Part, known_models

PIECES = [bytes(range(256)) * 300, b"the second part" * 1000]


def write_wheel(directory: Path, name: str, member: str, data: bytes) -> Path:
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


class Shop(NamedTuple):
    """A model in two wheels, the directory pip finds them in, and the cache."""

    model: KnownModel
    wheels: Path
    cache: Path

    def left(self) -> list[str]:
        """Names of files in the cache, without the lock."""
        return sorted(p.name for p in self.cache.rglob("*") if p.is_file() and p.name != ".lock")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    wheels = tmp_path / "wheel house"
    wheels.mkdir()
    parts = list[Part]()
    for index, data in enumerate(PIECES):
        wheel = write_wheel(wheels, f"toy_part{index}", f"toy/data/toy.gguf.part{index}", data)
        parts.append(Part(f"toy-part{index}==1.0", f"toy/data/toy.gguf.part{index}", wheel.stat().st_size))
    whole = b"".join(PIECES)
    digest = hashlib.sha256(whole).hexdigest()
    model = KnownModel("toy", "toy.gguf", "a toy", len(whole), digest, tuple(parts))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", wheels.as_uri())
    monkeypatch.setenv("CK_CACHE_DIR", str(tmp_path / "the cache"))
    return Shop(model, wheels, tmp_path / "the cache")


def test_pull_joins_the_parts(shop: Shop) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch.pull(shop.model, lambda done, total: seen.append((done, total)))
    assert path == shop.cache / "models" / "toy" / "toy.gguf"
    assert path.read_bytes() == b"".join(PIECES)
    assert shop.left() == ["run.json", "toy.gguf"]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (shop.model.download_bytes, shop.model.download_bytes)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_was_pulled_is_a_run_directory(shop: Shop) -> None:
    path = fetch.pull(shop.model)
    assert resolve.resolve_model(str(path.parent)) == path
    assert json.loads((path.parent / "run.json").read_text())["model"]["sha256"] == shop.model.sha256


def test_a_second_pull_downloads_nothing(shop: Shop) -> None:
    assert fetch.plan_pull(shop.model) == shop.model.download_bytes
    assert not shop.cache.exists()
    path = fetch.pull(shop.model)
    shutil.rmtree(shop.wheels)
    assert fetch.pull(shop.model) == path
    assert fetch.plan_pull(shop.model) == 0


def test_a_truncated_file_is_pulled_again(shop: Shop) -> None:
    path = fetch.pull(shop.model)
    path.write_bytes(b"short")
    assert fetch.pull(shop.model).read_bytes() == b"".join(PIECES)


def test_a_wrong_hash_is_refused_and_nothing_kept(shop: Shop) -> None:
    wrong = dataclasses.replace(shop.model, sha256="0" * 64)
    with pytest.raises(NetworkError) as caught:
        fetch.pull(wrong)
    assert f"sha256 must be {'0' * 64}, the download has {shop.model.sha256}" in str(caught.value)
    assert shop.left() == []


def test_a_wheel_without_the_member(shop: Shop) -> None:
    parts = (dataclasses.replace(shop.model.parts[0], member="toy/elsewhere"), shop.model.parts[1])
    with pytest.raises(NetworkError, match="must be a wheel with toy/elsewhere"):
        fetch.pull(dataclasses.replace(shop.model, parts=parts))
    assert shop.left() == []


def test_a_missing_wheel_is_one_line(shop: Shop) -> None:
    next(shop.wheels.glob("toy_part1*")).unlink()
    with pytest.raises(NetworkError) as caught:
        fetch.pull(shop.model)
    message = str(caught.value)
    assert message.startswith("toy: could not download toy-part1==1.0: No matching distribution found")
    assert message.endswith("then run: ck pull toy")
    assert "\n" not in message
    assert shop.left() == []


def test_an_unreachable_index_shows_no_password(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NetworkError) as caught:
        fetch.pull(shop.model)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_disk_space_nothing_is_tried(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(ResourceError, match=r"toy: needs 17 MB free in .*, found 1.0 MB; free some"):
        fetch.pull(shop.model)
    assert shop.left() == []
    with pytest.raises(ResourceError, match=r"toy: needs 17 MB free in .*, found 1.0 MB; free some"):
        fetch.plan_pull(shop.model)


def test_without_pip(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(MachineError, match=r"pip is missing; run: .*python -m ensurepip"):
        fetch.pull(shop.model)


SCRIPT = """
import sys, pickle
from ck.runtime import fetch
print(fetch.pull(pickle.loads(bytes.fromhex(sys.argv[1]))), flush=True)
"""


def start(model: KnownModel) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, pickle.dumps(model).hex()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_pull_the_same_model(shop: Shop) -> None:
    for child in [start(shop.model), start(shop.model)]:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        assert Path(out.strip()).read_bytes() == b"".join(PIECES)
    assert shop.left() == ["run.json", "toy.gguf"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_stopped_pull_leaves_no_part_of_a_file_and_the_next_works(shop: Shop, how: signal.Signals) -> None:
    child = start(shop.model)
    deadline = time.monotonic() + 30
    while not list(shop.cache.rglob(".pull-*/toy.gguf")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(how)
    child.communicate(timeout=30)
    directory = shop.cache / "models" / "toy"
    # On a busy machine the signal may come after the rename: then the file is whole.
    if (directory / "toy.gguf").exists():
        assert hashlib.sha256((directory / "toy.gguf").read_bytes()).hexdigest() == shop.model.sha256
    elif how == signal.SIGINT:
        assert shop.left() == []
    fetch.pull(shop.model)
    assert sorted(p.name for p in directory.iterdir()) == [".lock", "run.json", "toy.gguf"]


def test_what_a_pull_killed_at_its_end_left_goes_with_the_next(shop: Shop) -> None:
    directory = fetch.pull(shop.model).parent
    (directory / ".pull-killed").mkdir()
    fetch.pull(shop.model)
    assert sorted(p.name for p in directory.iterdir()) == [".lock", "run.json", "toy.gguf"]


def test_the_known_names_are_pinned() -> None:
    assert list(known_models()) == ["smollm2-135m", "gemma3-270m"]
    for model in known_models().values():
        assert len(model.sha256) == 64
        assert model.file.endswith(".gguf")
        assert all("==" in part.requirement for part in model.parts)


REFUSED: list[tuple[str, type[Exception], str]] = [
    ("hf://Qwen/Qwen3-0.6B-GGUF/x.txt", UsageError, "a file must end in .gguf"),
    ("https://example.org/x.gguf", UnsupportedError, "download the file and give its path"),
    ("smolm2-135m", UsageError, "no such file; did you mean smollm2-135m?"),
    ("missing.gguf", UsageError, "no such file; give a .gguf file, a model folder, a run dir"),
    ("org/name/x.gguf", UsageError, "no such file; one on the hub is written hf://org/name/x.gguf"),
    ("./name/x.gguf", UsageError, "no such file; give a .gguf file"),
    ("", UsageError, "no such file"),
    ("~nobody-has-this-name/x.gguf", UsageError, "no such file"),
]


@pytest.mark.parametrize(("argument", "kind", "words"), REFUSED, ids=[row[0] for row in REFUSED])
def test_resolve_refuses(
    argument: str, kind: type[Exception], words: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.wheels.joinpath("empty").mkdir()
    monkeypatch.chdir(shop.wheels / "empty")
    with pytest.raises(kind) as caught:
        resolve.resolve_model(argument)
    assert words in str(caught.value)


RECORDS: list[tuple[str, type[Exception], str]] = [
    ("{", MalformedError, "must be JSON with model.file, JSONDecodeError"),
    ("[]", MalformedError, "must be JSON with model.file, TypeError"),
    ("{}", MalformedError, "must be JSON with model.file, KeyError: 'model'"),
    ('{"model": {"file": 3}}', MalformedError, "model.file must be a string, it is int"),
    ('{"model": {"file": "../secret"}}', MalformedError, "must be a plain file name, it is '../secret'"),
    ('{"model": {"file": "/etc/passwd"}}', MalformedError, "must be a plain file name, it is '/etc/passwd'"),
    ('{"model": {"file": ".."}}', MalformedError, "must be a plain file name, it is '..'"),
    ('{"model": {"file": "gone.gguf"}}', UsageError, "gone.gguf is not there"),
    ("[" * 100_000, MalformedError, "must be JSON with model.file"),
]


@pytest.mark.parametrize(("text", "kind", "words"), RECORDS, ids=[row[0][:40] for row in RECORDS])
def test_run_directories_are_checked(text: str, kind: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(kind) as caught:
        resolve.resolve_model(str(tmp_path))
    assert words in str(caught.value)


def test_directories_without_a_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must have config.json, of a model, or run.json, of a run; it has"):
        resolve.resolve_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert resolve.resolve_model(str(tmp_path)) == tmp_path
    (tmp_path / "run.json").write_text('{"model": {"file": "model"}}')
    with pytest.raises(UsageError, match=r"model\.file must be a model in the directory, model is not there"):
        resolve.resolve_model(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert resolve.resolve_model(str(tmp_path)) == tmp_path / "model"
    (tmp_path / "run.json").write_text('{"model": {"file": null}}')
    with pytest.raises(UsageError, match="the program was made of a model in memory; give the model itself"):
        resolve.resolve_model(str(tmp_path))


def test_a_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m").write_text("")
    assert resolve.resolve_model("smollm2-135m") == Path("smollm2-135m")
