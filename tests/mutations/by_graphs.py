"""Detector `graphs`: random programs, every second one trained, each through all there is. Prints JSON.

python tests/mutations/by_graphs.py N      up to N programs, of seeds 0, 1, ..
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.graphs.check_inference import check_inference
from tests.graphs.check_training import check_training
from tests.graphs.inference import draw_inference
from tests.graphs.judge import Disagreement
from tests.graphs.train import draw_training
from tests.mutations.run import DISAGREEMENT


def one(seed: int) -> None:
    """Draw a program and run it every way. Raises Disagreement, or what broke."""
    choose = random.Random(seed).choice
    with tempfile.TemporaryDirectory(prefix="ck-graph-") as folder:
        if seed % 2:
            check_training(draw_training(choose), Path(folder))
        else:
            check_inference(draw_inference(choose), Path(folder))


def detect(n_graphs: int) -> dict[str, Any]:
    """What fails first, after how many graphs."""
    for seed in range(n_graphs):
        try:
            one(seed)
        except Disagreement as error:
            text = str(error).splitlines()[0]
            return {"caught": True, "after": seed + 1, "by": DISAGREEMENT, "text": text}
        except Exception as error:
            return {"caught": True, "after": seed + 1, "by": type(error).__name__, "text": str(error)}
    return {"caught": False, "after": n_graphs}


if __name__ == "__main__":
    print(json.dumps(detect(int(sys.argv[1]))))
