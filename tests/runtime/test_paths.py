"""The cache directory: which variable wins, and which directories are refused."""

import os
from pathlib import Path

import pytest

from ck.errors import MachineError
from ck.runtime import paths


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CK_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_order_of_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.cache_root() == home / ".cache" / "ck"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert paths.cache_root() == home / ".cache" / "ck"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "x dg"))
    assert paths.cache_root() == home / "x dg" / "ck"
    monkeypatch.setenv("CK_CACHE_DIR", "~/own")
    assert paths.cache_root() == home / "own"
    monkeypatch.setenv("CK_CACHE_DIR", ".")
    assert paths.cache_root() == Path.cwd()
    monkeypatch.setenv("CK_CACHE_DIR", "~nobody-has-this-name/own")
    with pytest.raises(MachineError, match="must be a directory, ~nobody-has-this-name is nobody's home"):
        paths.cache_root()


def test_directories_are_private(home: Path) -> None:
    old = os.umask(0)
    try:
        made = paths.models_dir()
    finally:
        os.umask(old)
    for directory in (made, made.parent, made.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert paths.models_dir() == made


def test_a_directory_others_write_to_is_refused(home: Path) -> None:
    made = paths.models_dir()
    made.chmod(0o777)
    with pytest.raises(MachineError, match="must not be writable by others; run: chmod 700"):
        paths.models_dir()


def test_a_file_in_the_way_is_one_line(home: Path) -> None:
    (home / ".cache").write_text("")
    with pytest.raises(MachineError, match=r"models: must be a writable directory, .*; set CK_CACHE_DIR"):
        paths.models_dir()


def test_another_users_directory_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = paths.models_dir().stat().st_uid
    # Only root can give a directory away, but anyone can be somebody else to the check.
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(MachineError, match=f"must belong to user {owner + 1}, belongs to {owner}"):
        paths.models_dir()


def test_what_goes_while_it_is_counted_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "sub/b", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(10))
    (tmp_path / "link").symlink_to("sub")
    assert paths.tree_bytes(tmp_path / "a") == 10
    assert paths.tree_bytes(tmp_path / "none") == 0
    look = os.lstat

    def lstat(path: str) -> os.stat_result:
        if path.endswith("c"):
            os.unlink(path)
        return look(path)

    monkeypatch.setattr(os, "lstat", lstat)
    assert paths.tree_bytes(tmp_path) == 20
