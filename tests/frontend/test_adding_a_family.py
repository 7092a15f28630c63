"""docs/adding-a-family.md says what a family took: which files, how many lines, and what stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-family.md").read_text()
ROW = re.compile(r"^\| (ck/\S+) \| (\d+) \|$", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = re.compile("smollm3", re.IGNORECASE)
FOLDER = ROOT / "ck" / "frontend" / "architectures"


def test_the_files_that_name_the_family_are_those_of_the_page() -> None:
    stated = {path.replace("\\", ""): int(n_lines) for path, n_lines in ROW.findall(PAGE)}
    found: dict[str, int] = {}
    for path in sorted((ROOT / "ck").rglob("*.py")):
        lines = path.read_text().splitlines()
        naming = [line for line in lines if NAME.search(line)]
        own = "smollm3" in path.name
        if naming:
            found[path.relative_to(ROOT).as_posix()] = len(lines) if own else len(naming)
    assert stated == found


def test_what_the_page_shows_stands_in_the_files() -> None:
    sources = [path.read_text() for path in FOLDER.rglob("*.py")]
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 5
    for block in blocks:
        assert any(block in source for source in sources), block
