"""Files from anywhere through the commands: malformed ones end in one line, parts lead to the whole."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.frontend.make_gguf import write_tiny
from tests.frontend.malformed import CASES, kind_of, write_malformed
from tests.frontend.raw_gguf import parse
from tests.frontend.split_files import split, write

MALFORMED = [
    "keys-llama.embedding_length-string",
    "keys-tokenizer.ggml.add_bos_token-u32",
    "keys-bos-past",
    "keys-rope.freq_base-f64",
    "keys-context_length-u64",
    "cuts-text",
    "cuts-tensor-dims",
    "cuts-no-tensors",
    "cuts-zip",
    "values-no-attn_q",
    "values-turned-attn_k",
    "values-past-end-q4_k",
    "values-windows-three",
    "values-yarn-factor-tiny",
    "values-split-alone",
    "vocabularies-token-surrogate",
    "vocabularies-byte-lower",
    "vocabularies-merges-absent",
    "unsupported-type-iq2_xs",
    "unsupported-family-mamba",
    "unsupported-vocabulary-rwkv",
    "unsupported-extra-bias",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_malformed(tmp_path_factory.mktemp("malformed"), MALFORMED)


@pytest.mark.parametrize("name", MALFORMED)
def test_run_ends_with_one_line(ck_main: Any, files: dict[str, Path], name: str) -> None:
    result = ck_main("run", str(files[name]), "--prompt", "Hi")
    assert (result.code, result.out) == (kind_of(name).exit_code, "")
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith(f"ck: {name}.gguf: ")
    assert re.search(CASES[name][0], result.err), result.err


def test_there_are_as_many_as_promised() -> None:
    assert len(set(MALFORMED)) == len(MALFORMED) >= 20


def test_the_commands_take_any_part(ck_main: Any, tmp_path: Path) -> None:
    whole = write_tiny(tmp_path / "whole.gguf")
    paths = write(split(parse(whole.read_bytes())), tmp_path / "split")
    asked = ("--prompt", "ab", "-n", "4", "--temp", "0", "-c", "32", "--backend", "llvm", "-t", "1")
    replies = [ck_main("run", str(model), *asked, "--chat-template", "none") for model in (whole, *paths)]
    assert {(reply.code, reply.out) for reply in replies} == {(0, replies[0].out)}
    facts = [json.loads(ck_main("show", str(model), "--json").out) for model in (whole, paths[2])]
    assert facts[1] == {**facts[0], "file": str(paths[0])}
    assert ck_main("compile", str(paths[1]), "-c", "32", "--backend", "llvm").code == 0
    paths[1].unlink()
    refused = ck_main("compile", str(paths[2]), "--backend", "llvm")
    assert refused.code == 3
    words = "its part m-00002-of-00003.gguf must lie beside it, it is not there; download it too"
    assert refused.err == f"ck: m-00003-of-00003.gguf: {words}\n"
