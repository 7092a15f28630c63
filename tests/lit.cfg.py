"""For `lit tests`: the .mlir files here are tests; tests/lit_inprocess.py runs them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.lit_inprocess import InProcess  # noqa: E402

config.name = "ck"  # noqa: F821
config.test_format = InProcess()  # noqa: F821
config.suffixes = [".mlir"]  # noqa: F821
config.test_source_root = str(ROOT / "tests")  # noqa: F821
config.excludes = ["data"]  # noqa: F821
