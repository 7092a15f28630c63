"""`ck tokenizer train|roundtrip|clean|encode`: from text to the tokens a model is trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from ck.cli.options import json_option

if TYPE_CHECKING:
    from ck.train.cleaning import Cleaned
    from ck.train.corpus import Corpus

F = TypeVar("F", bound=Callable[..., Any])

# How many of the characters that cleaning spelled are listed.
SHOWN_CHARACTERS = 20

_DATA_OPTIONS = (
    click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path)),
    click.option(
        "--split",
        type=click.Choice(["file", "line"]),
        default="file",
        help="A text file is one document, or each of its lines is.",
    ),
    click.option("--field", default="text", help="Field of a JSONL row that holds the text."),
)
_TOKENIZER = click.argument("tokenizer", type=click.Path(path_type=Path))


def data_options(function: F) -> F:
    """DATA and how it is read."""
    for option in reversed(_DATA_OPTIONS):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Train a tokenizer, prove it on text, clean text for it, encode text with it.

    DATA are text files, JSONL files with a field "text", and directories of them. Text is UTF-8 with LF line
    ends, without byte order mark and NUL.
    """


@command.command()
@data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), default="tokenizer.json", help="The file.")
@click.option(
    "--kind",
    type=click.Choice(["bpe", "ascii_bpe"]),
    default="bpe",
    help="Base alphabet: 256 bytes, or 98 of printable ASCII, tab, LF and CR.",
)
@click.option("--vocab-size", type=click.IntRange(1), default=1024, help="Tokens, reserved ones included.")
@click.option(
    "--special", multiple=True, help="A text that is always one token, besides <|endoftext|>; repeatable."
)
@json_option
def train(
    data: tuple[Path, ...],
    split: Literal["file", "line"],
    field: str,
    output: Path,
    kind: Literal["bpe", "ascii_bpe"],
    vocab_size: int,
    special: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a byte-level BPE tokenizer on DATA and write its tokenizer.json.

    The same text gives the same file.
    """
    from ck.cli.output import write_json
    from ck.cli.progress import Status
    from ck.train.corpus import Corpus
    from ck.train.tokenizer_training import train_tokenizer

    corpus = Corpus(data, split, field, ascii_only=kind == "ascii_bpe")
    with Status(f"training a tokenizer of {vocab_size} tokens"):
        tokenizer = train_tokenizer(corpus, kind, vocab_size, special)
    output.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(output)
    facts = {"file": str(output), "kind": kind, "n_vocab": tokenizer.n_vocab, "sha256": tokenizer.sha256}
    if as_json:
        write_json({**facts, "reserved": tokenizer.reserved})
    else:
        click.echo(f"{output}: {kind} of {tokenizer.n_vocab} tokens, {len(tokenizer.reserved)} reserved")


@command.command()
@_TOKENIZER
@data_options
@json_option
def roundtrip(
    tokenizer: Path, data: tuple[Path, ...], split: Literal["file", "line"], field: str, as_json: bool
) -> None:
    """Encode and decode all of DATA with TOKENIZER and compare byte by byte.

    Exit code 5 when a document comes back different; the first difference is named.
    """
    from ck.cli.output import write_json, write_table
    from ck.cli.progress import Status
    from ck.train.round_trip import round_trip
    from ck.train.tokenizer_training import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    with Status("encoding and decoding"):
        report = round_trip(loaded, _corpus(data, split, field, loaded.kind))
    first = report.first
    if as_json:
        place = None if first is None else {**vars(first), "path": str(first.path)}
        write_json({**vars(report), "bytes_per_token": report.bytes_per_token, "first": place})
    else:
        rows = [["documents", str(report.n_documents)], ["bytes", str(report.n_bytes)]]
        rows += [["tokens", str(report.n_tokens)]]
        rows += [
            ["bytes a token", f"{report.bytes_per_token:.3f}" if report.bytes_per_token else "no tokens"]
        ]
        rows += [["different", str(report.n_mismatches)]]
        write_table(rows)
    report.require()


def _corpus(data: tuple[Path, ...], split: Literal["file", "line"], field: str, kind: str | None) -> "Corpus":
    from ck.train.corpus import Corpus

    return Corpus(data, split, field, ascii_only=kind == "ascii_bpe")


@command.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory of the copies."
)
@click.option("--unicode", "keep", is_flag=True, help="Repair only: keep characters that are not ASCII.")
@click.option("--field", default="text", help="Field of a JSONL row that holds the text.")
@json_option
def clean(data: tuple[Path, ...], output: Path, keep: bool, field: str, as_json: bool) -> None:
    """Write copies of DATA that can be trained on, and say what was changed.

    The byte order mark and NUL go, CR LF becomes LF, and every other character is spelled in printable ASCII:
    quotes, dashes, arrows and drawings by their look, letters without their marks, the rest as "?".
    """
    from ck.cli.output import write_json
    from ck.cli.progress import Status
    from ck.train.cleaning import clean_files

    with Status("cleaning"):
        cleaned = clean_files(data, output, to_ascii=not keep, field=field)
    characters = _characters(cleaned)
    if as_json:
        files = [str(file) for file in cleaned.files]
        write_json({**vars(cleaned), "files": files, "characters": characters})
    else:
        _print_cleaned(output, cleaned, characters)


def _characters(cleaned: "Cleaned") -> list[dict[str, Any]]:
    """What was spelled in ASCII, the most frequent first."""
    import unicodedata

    from ck.train.cleaning import spell

    counted = sorted(cleaned.characters.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "character": f"U+{ord(char):04X}",
            "name": unicodedata.name(char, "no name"),
            "spelled": spell(char),
            "count": count,
        }
        for char, count in counted
    ]


def _print_cleaned(output: Path, cleaned: "Cleaned", characters: list[dict[str, Any]]) -> None:
    from ck.cli.output import printable, write_table

    repairs = {
        "CR LF became LF": cleaned.n_line_ends,
        "NUL removed": cleaned.n_nul,
        "byte order marks removed": cleaned.n_byte_order_marks,
        "empty rows removed": cleaned.n_empty_rows,
        "characters spelled in ASCII": sum(cleaned.characters.values()),
    }
    click.echo(f"{output}: {len(cleaned.files)} files")
    rows = [[what, str(count)] for what, count in repairs.items() if count]
    write_table(rows or [["nothing", "had to be changed"]])
    listed = [
        [
            f"  {row['character']} {row['name'].lower()}",
            printable(row["spelled"]) or "(gone)",
            str(row["count"]),
        ]
        for row in characters[:SHOWN_CHARACTERS]
    ]
    write_table(listed)
    if len(characters) > SHOWN_CHARACTERS:
        click.echo(f"  and {len(characters) - SHOWN_CHARACTERS} others; --json lists them")


@command.command()
@_TOKENIZER
@data_options
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory of the shards."
)
@click.option("--dev-fraction", type=float, default=0.05, help="Share of the documents that is kept for dev.")
@click.option("--seed", type=click.IntRange(0), default=42, help="Chooses the documents for dev.")
@json_option
def encode(
    tokenizer: Path,
    data: tuple[Path, ...],
    split: Literal["file", "line"],
    field: str,
    output: Path,
    dev_fraction: float,
    seed: int,
    as_json: bool,
) -> None:
    """Encode DATA into token shards, as `ck train` does; kept when they are there from the same text."""
    from ck.cli.output import write_json, write_table
    from ck.cli.progress import Status
    from ck.train.tokenizer_training import load_tokenizer
    from ck.train.tokens import SPLITS, prepare_tokens

    loaded = load_tokenizer(tokenizer)
    with Status("encoding"):
        tokens = prepare_tokens(_corpus(data, split, field, loaded.kind), loaded, output, dev_fraction, seed)
    if as_json:
        write_json({"directory": str(output), **tokens.index})
        return
    rows = [["SPLIT", "DOCUMENTS", "TOKENS", "BYTES", "FILES"]]
    for name in SPLITS:
        part = tokens.index[name]
        counts = [part["n_documents"], part["n_tokens"], part["n_bytes"], len(part["shards"])]
        rows.append([name, *map(str, counts)])
    write_table(rows)
