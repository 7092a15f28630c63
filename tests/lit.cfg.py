"""For `lit tests`: the .mlir files here are tests; tests/lit_inprocess.py runs them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.lit_inprocess import InProcess

config.name = "ck"
config.test_format = InProcess()
config.suffixes = [".mlir"]
config.test_source_root = str(ROOT / "tests")
config.excludes = ["data"]
