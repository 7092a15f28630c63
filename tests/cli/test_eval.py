"""`ck eval ppl` and `kld` on tiny models, against what llama-perplexity printed of them, and their errors."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ck.cli.options import compile_model
from ck.evaluate.base_file import BaseFile
from ck.evaluate.log_probs import expand
from ck.evaluate.windows import n_scored
from ck.frontend.gguf import GgufFile
from tests.evaluate.recorded import DATA, N_CHUNKS, N_CTX, TEXT, write_models
from tests.frontend.make_gguf import write_tiny

Run = Callable[..., Any]
WINDOWS = ("-c", str(N_CTX), "--chunks", str(N_CHUNKS))
F32 = ("--kv", "f32", "-t", "1")
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The recorded pair: base and model."""
    base, model = write_models(tmp_path_factory.mktemp("models"))
    return str(base), str(model)


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text"
    path.write_bytes(TEXT)
    return str(path)


@pytest.fixture
def ck(ck_main: Run, training_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CK_CACHE_DIR", str(training_cache))
    return lambda *words: ck_main("eval", *words)


def recorded(name: str) -> str:
    return (DATA / f"{name}.txt").read_text()


def test_perplexity_is_llama_perplexity_s(ck: Run, models: tuple[str, str], text: str) -> None:
    done = ck("ppl", models[0], "-f", text, *WINDOWS, *F32)
    assert done.code == 0, done.err
    running, final = recorded("saved").splitlines()
    assert re.sub(NUMBER, "", done.out.strip()) == re.sub(NUMBER, "", final)
    found, expected = (list(map(float, NUMBER.findall(each))) for each in (done.out, final))
    assert found == pytest.approx(expected, rel=1e-4)
    line = next(line for line in done.err.splitlines() if line.startswith("[1]"))
    assert re.sub(NUMBER, "", line) == re.sub(NUMBER, "", running)
    found, expected = (list(map(float, NUMBER.findall(each))) for each in (line, running))
    assert found == pytest.approx(expected, rel=1e-4)
    asked = json.loads(ck("ppl", models[0], "-f", text, *WINDOWS, *F32, "--json").out)
    assert asked["n_scored"] == N_CHUNKS * n_scored(N_CTX)
    assert asked["ppl"]["value"] == pytest.approx(expected[-1], rel=1e-4)
    assert asked["running_ppl"] == pytest.approx(expected, rel=1e-4)


def test_statistics_are_llama_perplexity_s(ck: Run, models: tuple[str, str], tmp_path: Path) -> None:
    done = ck("kld", models[1], "--base", str(DATA / "base.dat"), *F32)
    assert done.code == 0, done.err
    theirs = [line for line in recorded("compared").partition("======")[2].splitlines() if ":" in line]
    ours = [line for line in done.out.splitlines() if ":" in line]
    labels = [[line.partition(":")[0] for line in lines] for lines in (ours, theirs)]
    assert [label.rstrip() for label in labels[0]] == [label.rstrip() for label in labels[1]]
    for a, b in zip(ours, theirs, strict=True):
        found, expected = ([float(n) for n in NUMBER.findall(line.partition(":")[2])] for line in (a, b))
        # The recorded figures are rounded to their last digit, and both sides' logits to f32.
        step = 0.5 * 10 ** -len(NUMBER.findall(b.partition(":")[2])[0].partition(".")[2])
        assert found == pytest.approx(expected, abs=step + 2e-6, rel=2e-5), a
    rows = [re.findall(NUMBER, line) for line in recorded("compared").splitlines()[1 : N_CHUNKS + 1]]
    shown = [re.findall(NUMBER, line) for line in done.err.splitlines() if " ± " in line]
    # The first two windows have too few tokens for llama-perplexity to give every uncertainty.
    for found, expected in zip(shown[2:], rows[2:], strict=True):
        assert [float(n) for n in found] == pytest.approx([float(n) for n in expected], abs=1e-3, rel=1e-4)


def test_a_file_is_llama_perplexity_s(ck: Run, models: tuple[str, str], text: str, tmp_path: Path) -> None:
    out = tmp_path / "ours.dat"
    done = ck("kld", models[0], "--save-base", str(out), "-f", text, *WINDOWS, *F32)
    assert done.code == 0, done.err
    assert done.out.startswith("Final estimate: PPL = ")
    theirs, ours = DATA / "base.dat", BaseFile(out)
    head = 20 + 4 * N_CTX * N_CHUNKS
    assert out.read_bytes()[:head] == theirs.read_bytes()[:head]
    assert out.stat().st_size == theirs.stat().st_size
    every = slice(0, n_scored(N_CTX))
    for n in range(N_CHUNKS):
        a, b = ours.rows(n, every), BaseFile(theirs).rows(n, every)
        # Logits that differ by rounding: by a step at most.
        assert np.abs(expand(a) - expand(b)).max() < 1.5 * b["scale"].max()
        assert a["scale"] == pytest.approx(b["scale"], rel=1e-4)


def test_a_model_is_as_good_a_base_as_its_file(
    ck: Run, models: tuple[str, str], text: str, tmp_path: Path
) -> None:
    base, model = models
    out = str(tmp_path / "base.dat")
    both = ck(
        "kld", model, "--base", base, "-f", text, "-c", "32", "--chunks", "2", "--save-base", out, "--json"
    )
    assert both.code == 0, both.err
    from_file = ck("kld", model, "--base", out, "--json")
    a, b = json.loads(both.out), json.loads(from_file.out)
    assert (a.pop("base"), b.pop("base")) == (base, out)
    assert a == b
    assert (a["n_ctx"], a["n_chunks"], a["n_scored"]) == (32, 2, 30)
    assert a["kld_mean"]["value"] > 1e-3
    # A model and itself.
    alone = json.loads(
        ck("kld", base, "--base", base, "-f", text, "-c", "32", "--base-dtype", "f32", "--json").out
    )
    assert abs(alone["kld_mean"]["value"]) < 1e-4
    fewer = json.loads(ck("kld", model, "--base", out, "--chunks", "1", "--json").out)
    assert (fewer["n_chunks"], fewer["n_scored"]) == (1, 15)


def test_errors_are_one_line(ck: Run, models: tuple[str, str], text: str, tmp_path: Path) -> None:
    base, _ = models
    recorded_base = str(DATA / "base.dat")
    empty, latin = tmp_path / "empty", tmp_path / "latin"
    empty.write_bytes(b"")
    latin.write_bytes(b"caf\xe9")
    other = tmp_path / "other.dat"
    rows = bytes(8 + 2 * 300)
    other.write_bytes(b"_logits_" + struct.pack("<3i", 4, 300, 1) + bytes(16) + rows)
    pairs = str(write_tiny(tmp_path / "pairs.gguf", pairs=True))
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("ppl", base): (2, "ck: ppl: missing option '-f' / '--file'"),
        ("ppl", base, "-f", str(tmp_path / "none")): (2, f"ck: {tmp_path}/none: must be a readable"),
        ("ppl", base, "-f", str(empty), "-c", "16"): (
            2, f"ck: {empty}: 32 tokens at least are required by windows of 16, found 1; lower -c or",
        ),
        ("ppl", base, "-f", str(latin), "-c", "16"): (3, f"ck: {latin}: must be UTF-8, byte 3 is not"),
        ("ppl", base, "-f", text, "-c", "2"): (2, "ck: ppl: invalid value for '-c'"),
        ("kld", base): (2, "ck: kld: --base or --save-base is required"),
        ("kld", base, "--save-base", "x", "-f", text, "--base-dtype", "f32"): (
            2, "ck: kld: --base-dtype needs --base; the type of MODEL is --dtype",
        ),
        ("kld", base, "--save-base", "x"): (2, "ck: kld: -f is required: the text to read"),
        ("kld", base, "--save-base", text, "-f", text, "-c", "16"): (9, f"ck: {text}: must be new or hold"),
        ("kld", base, "--base", recorded_base, "-f", text): (2, f"ck: kld: {recorded_base} holds a text"),
        ("kld", base, "--base", recorded_base, "-c", "32"): (2, f"ck: {recorded_base}: its windows have 16"),
        ("kld", base, "--base", str(other)): (
            2, f"ck: {base}: needs the vocabulary of {other}, 300 tokens, it has 272\n",
        ),
        ("kld", base, "--base", pairs, "-f", text, "-c", "16"): (
            2, f"ck: {base}: needs the vocabulary of {pairs}, 264 tokens, it has 272\n",
        ),
        ("kld", base, "--base", str(latin), "-f", text, "-c", "16"): (3, "ck: latin: a GGUF header takes"),
    }  # fmt: skip
    for words, (code, message) in cases.items():
        done = ck(*words)
        assert (done.code, done.out) == (code, ""), words
        assert done.err.startswith(message), done.err
        assert done.err.count("\n") == 1, done.err


def test_windows_beyond_what_a_model_was_trained_on(ck: Run, models: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("ab " * 300)
    done = ck("ppl", models[0], "-f", str(path), "-c", "130")
    line = f"ck: {models[0]}: was trained on 128 tokens of context, windows have 130"
    assert (done.code, done.err.splitlines()[0]) == (0, line)


def test_a_newline_at_the_end_is_no_part_of_the_text(
    ck: Run, models: tuple[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    # One token too few with BOS, and just enough.
    for text, code in (("." * 30 + "\n", 2), ("." * 30 + "\n\n", 0), ("." * 31, 0)):
        path.write_text(text)
        assert ck("ppl", models[0], "-f", str(path), "-c", "16").code == code, text


def test_options_are_the_model_s_or_both_models(
    ck: Run, models: tuple[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()

    def spy(path: str, options: Any, adapter: str | None) -> Any:
        asked.append((path, options.dtype, options.quantize, options.kv, options.threads, options.ctx_size))
        return compile_model(path, replace(options, quantize=None))

    monkeypatch.setattr("ck.cli.eval.compile_model", spy)
    base, model = models
    words = ("--base", base, "-f", text, "-c", "16", "--kv", "f32", "-t", "1", "--quantize", "q8_0")
    done = ck("kld", model, *words, "--base-dtype", "f32")
    assert done.code == 0, done.err
    assert asked == [(model, None, "q8_0", "f32", 1, 16), (base, "f32", None, "f32", 1, 16)]


def test_a_text_from_standard_input(
    ck: Run, models: tuple[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(text) as file, monkeypatch.context() as patched:
        patched.setattr("sys.stdin", file)
        piped = ck("ppl", models[0], "-f", "-", *WINDOWS, *F32)
    assert piped.code == 0, piped.err
    assert piped.out == ck("ppl", models[0], "-f", text, *WINDOWS, *F32).out


def test_a_perplexity_beyond_all_numbers_is_null_in_json(
    ck: Run, models: tuple[str, str], text: str, tmp_path: Path
) -> None:
    base, far = Path(models[0]), tmp_path / "far.gguf"
    norm = GgufFile(base).tensors["output_norm.weight"]
    data, at = bytearray(base.read_bytes()), slice(norm.offset, norm.offset + norm.n_bytes)
    data[at] = (np.frombuffer(data[at], np.float32) * np.float32(1e5)).tobytes()
    far.write_bytes(data)
    done = ck("ppl", str(far), "-f", text, "-c", "16", "--chunks", "2", "--json")
    found = json.loads(done.out, parse_constant=pytest.fail)
    assert (found["ppl"]["value"], found["running_ppl"]) == (None, [None, None])
    assert found["mean_nll"] > 1000
