"""One process' resident memory as JSON: idle, or with a model loaded; started by compile_time.py.

    python benchmarks/resident.py            after `import ck.runtime`
    python benchmarks/resident.py MODEL      after loading MODEL, reading 512 tokens, and with a full cache

Of a model also the bytes it cannot do without: packed weights, computed here from the file, and its KV cache.
"""

import importlib
import json
import math
import sys
from pathlib import Path


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/status") as status:
        facts = dict(line.split(":", 1) for line in status)
    return 1024 * int(facts["VmRSS"].split()[0])


def packed_bytes(path: Path) -> int:
    """Bytes of all weights of the model at `path`: matrices in layout r16, vectors in f32."""
    from ck.frontend.gguf import GgufFile

    n_bytes = 0
    for tensor in GgufFile(path).tensors.values():
        if len(tensor.shape) == 2:
            n_bytes += tensor.storage.matrix_packed_bytes(*tensor.shape)
        else:
            n_bytes += 4 * math.prod(tensor.shape)
    return n_bytes


def loaded(path: Path) -> dict[str, int]:
    import numpy as np

    import ck

    model = ck.compile(path)
    after_load = resident()
    model.exe.prefill(np.arange(512, dtype=np.int32))
    after_prompt = resident()
    # A page of the cache is resident once it is written: write them all, as a full context would.
    for cache in model.exe.caches:
        cache.fill(0)
    return {
        "after_load": after_load, "after_prompt": after_prompt, "full": resident(),
        "packed_weights": packed_bytes(path), "kv": int(model.info["kv_bytes"]),
    }  # fmt: skip


if __name__ == "__main__":
    importlib.import_module("ck.runtime")
    idle = resident()
    print(json.dumps({"idle": idle} | (loaded(Path(sys.argv[1])) if len(sys.argv) > 1 else {})))
