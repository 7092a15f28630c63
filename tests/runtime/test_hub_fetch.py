"""Fetching from a hub: what lies where afterwards, what is asked, what is gone on with, what is refused."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ck.errors import CkWarning, ConflictError, MalformedError, NetworkError, UsageError
from ck.runtime import hub_client
from ck.runtime.hub_cache import CachedRepository, hub_cache_dir, source_record
from ck.runtime.hub_fetch import fetch
from ck.runtime.hub_files import choose_adapter
from ck.runtime.hub_name import HubName, parse_hub_name
from ck.runtime.hub_record import read_record, record_dir
from ck.runtime.resolve import resolve_adapter, resolve_model
from tests.runtime.hub_fixtures import LARGE, OTHER, PARTS, SMALL, TOKEN, hub
from tests.runtime.hub_server import COMMIT, Asked, Handler, HubServer, Repository, digest

__all__ = ["hub"]

NEXT = "fedcba9876543210fedcba9876543210fedcba98"
MODEL = HubName("org/name")
CACHED = CachedRepository("org/name")


def test_a_file_lies_where_other_tools_have_it(hub: HubServer) -> None:
    seen: list[tuple[int, int]] = []
    path = resolve_model("org/name", lambda done, total: seen.append((done, total)))
    assert path == hub_cache_dir() / "models--org--name" / "snapshots" / COMMIT / "m-Q4_K_M.gguf"
    assert path.read_bytes() == LARGE
    assert os.readlink(path) == f"../../blobs/{digest(LARGE)}"
    assert (CACHED.path / "refs" / "main").read_text() == COMMIT
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(LARGE), len(LARGE))
    assert hub.kinds() == ["info", "file", "large"]


def test_what_is_there_is_not_fetched_again(hub: HubServer) -> None:
    path = resolve_model("org/name:Q8_0")
    assert path.read_bytes() == OTHER
    hub.asked.clear()
    assert resolve_model("hf://org/name@main/m-Q8_0.gguf") == path
    assert hub.kinds() == ["info"]
    hub.asked.clear()
    assert resolve_model(f"hf://org/name@{COMMIT}/m-Q8_0.gguf") == path
    assert resolve_model(f"{hub.address}/org/name/blob/{COMMIT}/m-Q8_0.gguf") == path
    assert hub.asked == []


def test_what_the_cache_happens_to_have_is_not_taken_for_all_there_is(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_model("org/name:Q8_0")
    # By itself it would be the only model of the commit.
    assert resolve_model(f"hf://org/name@{COMMIT}").read_bytes() == LARGE
    hub.asked.clear()
    assert resolve_model(f"hf://org/name@{COMMIT}").read_bytes() == LARGE
    assert hub.asked == []
    resolve_model("org/name")
    hub.repositories["org/name"].files.pop("m-Q4_K_M.gguf")
    resolve_model("hf://org/name/tiny.gguf")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve_model("org/name").read_bytes() == LARGE
    assert resolve_model("org/name:Q8_0").read_bytes() == OTHER


def test_a_folder_is_fetched_without_what_is_not_of_it(hub: HubServer) -> None:
    path = resolve_model("org/folder")
    assert path.name == COMMIT
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (path / "config.json").read_bytes() == SMALL


def test_a_folder_that_lost_a_file_is_no_folder(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hf://org/folder@{COMMIT}"
    lost = resolve_model(name) / "tokenizer.json"
    lost.resolve().unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="or not whole"):
        resolve_model(name)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    resolve_model(name)
    assert lost.read_bytes() == b"{}"


def test_a_model_in_parts_is_fetched_whole(hub: HubServer) -> None:
    path = resolve_model("hf://org/parts/p-00002-of-00003.gguf")
    assert path.name == "p-00001-of-00003.gguf"
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == PARTS
    # The directory of the record has all parts beside each other.
    directory = record_dir(HubName("org/parts", file="p-00002-of-00003.gguf"))
    assert resolve_model(str(directory)) == directory / "p-00001-of-00003.gguf"
    assert (directory / "p-00003-of-00003.gguf").read_bytes() == PARTS["p-00003-of-00003.gguf"]


def test_an_adapter(hub: HubServer, tmp_path: Path) -> None:
    files = {"adapter_config.json": SMALL, "adapter_model.safetensors": LARGE, "README.md": b"# it"}
    hub.repositories["org/adapter"] = Repository(files)
    path = resolve_adapter("org/adapter")
    assert sorted(p.name for p in path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert resolve_adapter(tmp_path) == tmp_path
    assert resolve_adapter("hf") == Path("hf")
    with pytest.raises(NetworkError, match=r"an adapter must have adapter_config\.json"):
        fetch(MODEL, choose=choose_adapter)


def test_the_record_says_what_was_fetched_and_is_a_run_directory(hub: HubServer) -> None:
    path = resolve_model("org/name:Q8_0")
    directory = record_dir(HubName("org/name", quant="Q8_0"))
    record = json.loads((directory / "run.json").read_text())
    assert {key: record["hub"][key] for key in ("repo", "revision", "commit")} == {
        "repo": "org/name",
        "revision": "main",
        "commit": COMMIT,
    }
    row = record["hub"]["files"]["m-Q8_0.gguf"]
    assert (row["digest"], row["n_bytes"]) == (hashlib.sha256(OTHER).hexdigest(), len(OTHER))
    link = resolve_model(str(directory))
    assert link.read_bytes() == OTHER
    known = {"hub": {"repo": "org/name", "commit": COMMIT, "files": {"m-Q8_0.gguf": digest(OTHER)}}}
    assert source_record(path) == source_record(link) == known
    assert source_record(None) == source_record(directory / "run.json") == {}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_names_do_not_share_a_record() -> None:
    names = [
        "org/name",
        "org/name:Q8_0",
        "hf://org/name@Q8_0",
        "hf://org/name/Q8_0.gguf",
        "hf://org/name@main",
    ]
    names += ["hf://org/name@a%2Fb", "hf://org/name@a--b", f"hf://org/name/{'x' * 200}.gguf"]
    parsed = [name for text in names if (name := parse_hub_name(text)) is not None]
    # main is what no revision means.
    assert len({record_dir(name) for name in parsed}) == len(names) - 1


def test_other_tools_and_ck_find_each_others_files(hub: HubServer) -> None:
    path = resolve_model("org/name")
    script = """
from huggingface_hub import hf_hub_download, snapshot_download
print(hf_hub_download("org/name", "m-Q4_K_M.gguf", local_files_only=True))
print(hf_hub_download("org/name", "m-Q8_0.gguf"))
print(snapshot_download("org/folder", allow_patterns=["*.json", "*.safetensors"]))
"""
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    first, second, folder = map(Path, output.splitlines())
    assert first == path
    hub.asked.clear()
    assert resolve_model("org/name:Q8_0") == second
    assert resolve_model("org/folder") == folder
    assert hub.kinds() == ["info", "info"]


def cut_at(n_bytes: int, times: int = 1) -> Any:
    """End the first connections for a large file behind so many bytes."""
    left = times

    def fault(handler: Handler, asked: Asked) -> bool:
        nonlocal left
        if asked.kind != "large" or left == 0:
            return False
        left -= 1
        begin = int(asked.headers.get("range", "bytes=0-")[6:-1])
        place = {"Content-Range": f"bytes {begin}-{len(LARGE) - 1}/{len(LARGE)}"} if begin else {}
        handler.send(206 if begin else 200, LARGE[begin : begin + n_bytes], place, len(LARGE) - begin)
        return True

    return fault


def ranges(hub: HubServer) -> list[str | None]:
    return [asked.headers.get("range") for asked in hub.asked if asked.kind == "large"]


def test_a_file_goes_on_where_the_connection_broke(hub: HubServer) -> None:
    hub.fault = cut_at(70_000)
    assert resolve_model("org/name").read_bytes() == LARGE
    assert ranges(hub) == [None, "bytes=70000-"]


def test_attempts_that_bring_much_do_not_count(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "_WORTH_BYTES", 10_000)
    hub.fault = cut_at(20_000, times=9)
    assert resolve_model("org/name").read_bytes() == LARGE
    assert len(ranges(hub)) == 10


def test_a_server_that_recovers(hub: HubServer) -> None:
    def fault(handler: Handler, asked: Asked) -> bool:
        return len(hub.asked) in (1, 3) and handler.refuse(503, "")

    hub.fault = fault
    assert resolve_model("org/name").read_bytes() == LARGE


WHOLE = {
    "200": (200, LARGE, {}),
    "416": (416, b"", {}),
    "another place": (206, LARGE[5:], {"Content-Range": "bytes 5-9/10"}),
}


@pytest.mark.parametrize("how", WHOLE)
def test_a_server_without_ranges(how: str, hub: HubServer) -> None:
    hub.fault = cut_at(50_000, times=1 << 30)
    with pytest.raises(NetworkError):
        resolve_model("org/name")
    assert CACHED.part(digest(LARGE)).stat().st_size > 0

    def fault(handler: Handler, asked: Asked) -> bool:
        if asked.kind == "large" and "range" in asked.headers:
            status, body, headers = WHOLE[how]
            handler.send(status, body, headers)
            return True
        return False

    hub.fault = fault
    assert resolve_model("org/name").read_bytes() == LARGE


def test_a_beginning_of_another_file_is_thrown_away(hub: HubServer) -> None:
    part = CACHED.part(digest(LARGE))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 3000)
    assert resolve_model("org/name").read_bytes() == LARGE
    part.write_bytes(LARGE + b"x")
    CACHED.blob(digest(LARGE)).unlink()
    assert resolve_model("org/name").read_bytes() == LARGE
    assert not part.exists()


def test_an_answer_that_is_compressed_all_the_same(hub: HubServer) -> None:
    hub.fault = lambda handler, asked: asked.kind == "large" and handler.send_compressed(LARGE)
    assert resolve_model("org/name").read_bytes() == LARGE


def test_a_file_of_no_bytes(hub: HubServer) -> None:
    hub.repositories["org/name"].files["empty.gguf"] = b""
    assert resolve_model("hf://org/name/empty.gguf").read_bytes() == b""


def test_what_a_killed_process_leaves_beside_revisions_is_none(hub: HubServer) -> None:
    resolve_model("org/name")
    (CACHED.path / "refs" / ".ck-killed").write_text(COMMIT)
    assert CACHED.commits() == {COMMIT: "main"}


def test_a_revision_with_a_slash(hub: HubServer) -> None:
    assert resolve_model("hf://org/name@v1%2Fx/m-Q8_0.gguf").read_bytes() == OTHER
    assert (CACHED.path / "refs" / "v1" / "x").read_text() == COMMIT
    # A name that a folder has is not kept, and nothing else is in its place.
    CACHED.set_commit("v1", COMMIT)
    assert [path.name for path in (CACHED.path / "refs").rglob("*")] == ["v1", "x"]


def test_the_token_goes_to_the_hub_alone(hub: HubServer, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_DEBUG", "1")
    hub.repositories["org/name"].token = TOKEN
    resolve_model("org/name")
    sent = {asked.kind: asked.headers.get("authorization") for asked in hub.asked}
    assert sent == {"info": f"Bearer {TOKEN}", "file": f"Bearer {TOKEN}", "large": None}
    assert TOKEN not in "".join(capfd.readouterr())
    texts = [path for path in Path(os.environ["CK_CACHE_DIR"]).rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in texts)


def test_no_token_is_sent_when_that_is_turned_off(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    resolve_model("org/name")
    assert not any("authorization" in asked.headers for asked in hub.asked)


def move(hub: HubServer) -> None:
    """Another commit, with another file."""
    hub.repositories["org/name"].commit = NEXT
    hub.repositories["org/name"].files["m-Q4_K_M.gguf"] = OTHER


def test_a_revision_that_moved_is_followed(hub: HubServer) -> None:
    before = resolve_model("org/name")
    move(hub)
    after = resolve_model("org/name")
    assert (before.read_bytes(), after.read_bytes()) == (LARGE, OTHER)
    record = read_record(MODEL)
    assert record is not None
    assert (record.commit, CACHED.commit_of("main")) == (NEXT, NEXT)


def test_locked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UsageError, match=r"with --locked it must have been fetched before; run: ck pull hf://org"
    ):
        resolve_model("org/name", locked=True)
    path = resolve_model("org/name")
    assert resolve_model("org/name", locked=True) == path
    move(hub)
    with pytest.raises(ConflictError) as caught:
        resolve_model("org/name", locked=True)
    assert f"with --locked main must be {COMMIT[:12]}, it is commit {NEXT[:12]}" in str(caught.value)
    # Another tool may have looked the revision up since.
    CACHED.set_commit("main", NEXT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve_model("org/name", locked=True) == path


def test_a_hub_that_gives_no_answer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = resolve_model("org/name")
    hub.fault = lambda handler, asked: handler.refuse(503, "")
    with pytest.warns(
        CkWarning, match=rf"answered 503, 3 times in a row; .*; taking commit {COMMIT[:12]} from the"
    ):
        assert resolve_model("org/name") == path
    with pytest.raises(NetworkError, match="answered 503"):
        resolve_model("org/name:Q8_0")
    # An answer that says no is not silence.
    hub.fault = lambda handler, asked: handler.refuse(403, "GatedRepo")
    with pytest.raises(NetworkError, match="is gated"):
        resolve_model("org/name")


def test_contents_that_are_not_what_they_should_be(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = resolve_model("org/name")
    path.write_bytes(LARGE[::-1])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MalformedError, match=r"m-Q4_K_M\.gguf must have digest .*, in the cache it has another"
    ):
        resolve_model("org/name")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert resolve_model(f"hf://org/name@{COMMIT}/m-Q4_K_M.gguf").read_bytes() == LARGE
