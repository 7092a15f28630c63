"""Bugs to put into a copy of the product, one at a time: bugs.toml read, put in and taken out again."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the detectors run from.
PARTS = ("ck", "runtime_c", "tests", "pyproject.toml")
KINDS = ("pass", "gradient", "polynomial", "emitter", "kernel")
LIBRARY = Path("ck", "_lib", "libck_rt.so")


@dataclass(frozen=True)
class Bug:
    """`old`, which stands exactly once in `file`, becomes `new`."""

    name: str
    kind: str
    file: str
    old: str
    new: str

    @property
    def in_library(self) -> bool:
        """Whether libck_rt has to be built again."""
        return self.file.startswith("runtime_c/")

    def put_into(self, text: str) -> str:
        """The file's text with the bug."""
        assert text.count(self.old) == 1, f"{self.file}: {self.old!r} stands {text.count(self.old)} times"
        return text.replace(self.old, self.new)


def all_bugs() -> list[Bug]:
    """The bugs of bugs.toml in its order."""
    with (Path(__file__).parent / "bugs.toml").open("rb") as file:
        return [Bug(**entry) for entry in tomllib.load(file)["bug"]]


class Tree:
    """A copy of the product in `folder`, to be broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            source, target = ROOT / part, folder / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)

    @contextmanager
    def broken_by(self, bug: Bug) -> Iterator[None]:
        """The copy with `bug` in it; whole again afterwards."""
        path = self.folder / bug.file
        whole = path.read_text()
        library = (self.folder / LIBRARY).read_bytes()
        try:
            self._write(path, bug.put_into(whole))
            if bug.in_library:
                self.build_library()
            yield
        finally:
            self._write(path, whole)
            (self.folder / LIBRARY).write_bytes(library)

    def build_library(self) -> None:
        """Build libck_rt; what did not change is not compiled again. Raises CalledProcessError."""
        command = [sys.executable, "runtime_c/build.py"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # A file of equal size, written within the same second, would be taken for the compiled one.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
