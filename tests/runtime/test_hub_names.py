"""What strings mean on the hub, which are refused, and which files of a repository are meant."""

import pytest
from huggingface_hub.utils import parse_hf_uri

from ck.errors import CkError, NetworkError, UnsupportedError, UsageError
from ck.runtime.hub_files import HubFile, choose_adapter, choose_model
from ck.runtime.hub_name import HubName, parse_hub_name, safe_file_name, shown_name

SHA = "0123456789abcdef0123456789abcdef01234567"

# What is written, and what it means: repository, revision, file, type.
ACCEPTED: list[tuple[str, HubName]] = [
    ("hf://org/name", HubName("org/name")),
    ("hf://org/name/", HubName("org/name")),
    ("hf://models/org/name", HubName("org/name")),
    ("hf://Org-1/a.b_c", HubName("Org-1/a.b_c")),
    ("hf://org/name@main", HubName("org/name", "main")),
    (f"hf://org/name@{SHA}", HubName("org/name", SHA)),
    ("hf://org/name@v1.0/x.gguf", HubName("org/name", "v1.0", "x.gguf")),
    ("hf://org/name/x.gguf", HubName("org/name", None, "x.gguf")),
    ("hf://org/name/sub dir/x y.gguf", HubName("org/name", None, "sub dir/x y.gguf")),
    ("hf://org/name/x@1.gguf", HubName("org/name", None, "x@1.gguf")),
    ("hf://org/name@r/x@1.gguf", HubName("org/name", "r", "x@1.gguf")),
    ("hf://org/name@refs/pr/12", HubName("org/name", "refs/pr/12")),
    ("hf://org/name@refs/pr/12/x.gguf", HubName("org/name", "refs/pr/12", "x.gguf")),
    ("hf://org/name@refs/convert/gguf/x.gguf", HubName("org/name", "refs/convert/gguf", "x.gguf")),
    ("hf://org/name@feature%2Fx/x.gguf", HubName("org/name", "feature/x", "x.gguf")),
    ("hf://models/models/name", HubName("models/name")),
    ("hf://org/name/100%25.gguf", HubName("org/name", None, "100%25.gguf")),
    ("org/name:Q8_0", HubName("org/name", quant="Q8_0")),
    ("org/name:q4_k_m", HubName("org/name", quant="q4_k_m")),
    ("org/name:UD-Q4_K_XL", HubName("org/name", quant="UD-Q4_K_XL")),
    ("org/name", HubName("org/name")),
    ("https://huggingface.co/org/name", HubName("org/name")),
    ("http://huggingface.co/org/name/", HubName("org/name")),
    ("https://HuggingFace.co/org/name", HubName("org/name")),
    ("huggingface.co/org/name", HubName("org/name")),
    ("https://hf.co/org/name", HubName("org/name")),
    ("https://huggingface.co/models/org/name", HubName("org/name")),
    ("https://huggingface.co/org/name/blob/main/x.gguf", HubName("org/name", "main", "x.gguf")),
    ("https://huggingface.co/org/name/resolve/v1/x.gguf?download=true", HubName("org/name", "v1", "x.gguf")),
    ("https://huggingface.co/org/name/raw/main/a%20b.gguf#L1", HubName("org/name", "main", "a b.gguf")),
    ("https://huggingface.co/org/name/tree/main", HubName("org/name", "main")),
    (f"https://huggingface.co/org/name/tree/{SHA}", HubName("org/name", SHA)),
    ("https://huggingface.co/org/name/tree/feature%2Fx", HubName("org/name", "feature/x")),
    ("https://huggingface.co/org/name/blob/refs%2Fpr%2F3/x.gguf", HubName("org/name", "refs/pr/3", "x.gguf")),
    ("https://huggingface.co/org/name/blame/main/x.gguf", HubName("org/name", "main", "x.gguf")),
    ("https://hub.test:8000/hf/org/name", HubName("org/name")),
    ("hub.test:8000/hf/org/name/blob/main/x.gguf", HubName("org/name", "main", "x.gguf")),
]

# What is written, whose fault that is, and a word of the reason.
REFUSED: list[tuple[str, type[CkError], str]] = [
    ("hf://", UsageError, "must be named ORG/NAME"),
    ("hf://gpt2", UsageError, "must be named ORG/NAME"),
    ("hf://models", UsageError, "must be named ORG/NAME"),
    ("hf:///name", UsageError, "must be named ORG/NAME"),
    ("hf://org//name", UsageError, "must be named ORG/NAME"),
    ("hf://model/org/name", UsageError, "a type is written in the plural, models/"),
    ("hf://dataset/org/name", UsageError, "a type is written in the plural, datasets/"),
    ("hf://datasets/org/name", UnsupportedError, "a model is required, datasets hold none"),
    ("hf://spaces/org/name", UnsupportedError, "spaces hold none"),
    ("hf://buckets/org/name/x.gguf", UnsupportedError, "buckets hold none"),
    ("hf://org/name@", UsageError, "must follow the @"),
    ("hf://org/name@/x.gguf", UsageError, "must follow the @"),
    ("hf://org@main/name", UsageError, "must be named ORG/NAME"),
    ("hf://org/name@../../x", UsageError, "the revision must be"),
    ("hf://org/name@..%2F..%2Fetc", UsageError, "the revision must be"),
    ("hf://org/name@-x", UsageError, "the revision must be"),
    ("hf://org/name@a b", UsageError, "the revision must be"),
    ("hf://org/name@a\nb", UsageError, "the revision must be"),
    ("hf://org/name@x.lock", UsageError, "the revision must be"),
    ("hf://org/name@" + "x" * 256, UsageError, "the revision must be"),
    ("hf://org/name@main//x.gguf", UsageError, "plain names with / between"),
    ("hf://org/name/../x.gguf", UsageError, "plain names with / between"),
    ("hf://org/name/a/./x.gguf", UsageError, "plain names with / between"),
    ("hf://org/name/a\\x.gguf", UsageError, "plain names with / between"),
    ("hf://org/name/a\x1b[31m.gguf", UsageError, "plain names with / between"),
    ("hf://org/name/" + "x" * 300 + ".gguf", UsageError, "plain names with / between"),
    ("hf://org/name/model.safetensors", UsageError, "a file must end in .gguf"),
    ("hf://org/name/sub", UsageError, "a file must end in .gguf"),
    ("hf://../name", UsageError, "must be named ORG/NAME"),
    ("hf://org/na--me", UsageError, "must be named ORG/NAME"),
    ("hf://org/name.git", UsageError, "must be named ORG/NAME"),
    ("hf://org/.name", UsageError, "must be named ORG/NAME"),
    ("hf://org/näme", UsageError, "must be named ORG/NAME"),
    ("hf://org/" + "x" * 100, UsageError, "must be named ORG/NAME"),
    ("org/name:", UsageError, "a type must follow the colon"),
    ("org/name:Q4 K", UsageError, "a type must follow the colon"),
    ("org/na..me:Q8_0", UsageError, "must be named ORG/NAME"),
    ("https://huggingface.co/", UsageError, "must be named ORG/NAME"),
    ("https://huggingface.co/org", UsageError, "must be named ORG/NAME"),
    ("https://huggingface.co/datasets/org/name", UnsupportedError, "datasets hold none"),
    ("https://huggingface.co/org/name/discussions/1", UsageError, "of a repository or of a file in it"),
    ("https://huggingface.co/org/name/blob/main/%2e%2e/x.gguf", UsageError, "plain names with / between"),
    ("https://huggingface.co/org/name/blob/main/a%2F..%2Fx.gguf", UsageError, "plain names with / between"),
    ("https://huggingface.co@evil.test/org/name", UsageError, "must not have a user or a password"),
    ("https://user:hf_secret@huggingface.co/org/name", UsageError, "must not have a user or a password"),
    ("https://huggingface.co.evil.test/org/name", UnsupportedError, "are fetched from the hub alone"),
    ("https://example.org/x.gguf?token=hf_secret", UnsupportedError, "download the file and give its path"),
    ("http://[::1/x.gguf", UsageError, "a web address is required"),
    ("ftp://huggingface.co/org/name", UnsupportedError, "are fetched from the hub alone"),
    ("file:///etc/passwd", UnsupportedError, "are fetched from the hub alone"),
    ("s3://bucket/x.gguf", UnsupportedError, "are fetched from the hub alone"),
]

NO_NAMES = [
    "",
    "x.gguf",
    "missing",
    "a/b/c",
    "./a/b",
    "/a/b",
    "~/a",
    "dir/x.gguf",
    "dir/config.json",
    "a b/c",
    "C:\\x",
]


def parse(text: str) -> HubName | None:
    return parse_hub_name(text, "https://hub.test:8000/hf")


@pytest.mark.parametrize(("text", "meaning"), ACCEPTED, ids=[row[0][:60] for row in ACCEPTED])
def test_a_name_means(text: str, meaning: HubName) -> None:
    assert parse(text) == meaning
    # The name's own text means the same.
    assert parse(str(meaning)) == meaning


@pytest.mark.parametrize(("text", "kind", "words"), REFUSED, ids=[ascii(row[0][:60]) for row in REFUSED])
def test_a_name_is_refused(text: str, kind: type[CkError], words: str) -> None:
    with pytest.raises(kind) as caught:
        parse(text)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert "secret" not in message


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_is_no_name_of_the_hub(text: str) -> None:
    assert parse(text) is None


def test_uris_mean_what_the_library_has_them_mean() -> None:
    for text, meaning in ACCEPTED:
        if text.startswith("hf://"):
            theirs = parse_hf_uri(text)
            assert (theirs.id, theirs.revision, theirs.path_in_repo) == (
                meaning.repo,
                meaning.revision,
                meaning.file or "",
            )


def test_names_are_shown_without_what_may_be_secret() -> None:
    assert shown_name("https://u:p@h.test/a?token=x#y") == "https://h.test/a"
    assert shown_name("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert len(shown_name("x" * 1000)) == 202


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../b", "a//b", "a/", ".", "a\\b", "a\0b", "a\nb", "x" * 256]
)
def test_file_names_that_leave_a_repository(name: str) -> None:
    assert not safe_file_name(name)
    assert safe_file_name("a/b c/d.gguf")


def files(*names: str) -> list[HubFile]:
    return [HubFile(name, 1, "0" * 64) for name in names]


GGUF = files(
    "README.md",
    "m-Q2_K.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "mmproj-f16.gguf",
    "m.imatrix.gguf",
    "BF16/m-BF16-00001-of-00002.gguf",
    "BF16/m-BF16-00002-of-00002.gguf",
)
FOLDER = files("config.json", "model.safetensors", "tokenizer.json", "onnx/model.onnx", "README.md", "x.bin")

# A name, what the repository has, and the files that are meant, the model's first; None: a folder.
CHOSEN: list[tuple[str, list[HubFile], list[str] | None]] = [
    ("org/name", GGUF, ["m-Q4_K_M.gguf"]),
    ("org/name:Q2_K", GGUF, ["m-Q2_K.gguf"]),
    ("org/name:q4_k_s", GGUF, ["m-Q4_K_S.gguf"]),
    ("org/name:BF16", GGUF, ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"]),
    ("hf://org/name/m-Q2_K.gguf", GGUF, ["m-Q2_K.gguf"]),
    (
        "hf://org/name/BF16/m-BF16-00002-of-00002.gguf",
        GGUF,
        ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"],
    ),
    ("org/name", files("only-f16.gguf", "mmproj-only.gguf"), ["only-f16.gguf"]),
    ("org/name", FOLDER, None),
    ("org/name", [*FOLDER, *files("m-Q8_0.gguf", "m-Q2_K.gguf")], None),
    ("org/name", [*FOLDER, *files("m-Q4_K_M.gguf", "m-Q2_K.gguf")], ["m-Q4_K_M.gguf"]),
]


@pytest.mark.parametrize(("text", "there", "wanted"), CHOSEN)
def test_the_files_that_are_meant(text: str, there: list[HubFile], wanted: list[str] | None) -> None:
    name = parse(text)
    assert name is not None
    choice = choose_model(name, there)
    if wanted is None:
        assert choice.main is None
        assert [file.name for file in choice.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    else:
        assert (choice.main, [file.name for file in choice.files]) == (wanted[0], wanted)


SHARDS = files("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json")
NOT_CHOSEN: list[tuple[str, list[HubFile], type[CkError], str]] = [
    (
        "org/name:Q8_0",
        GGUF,
        NetworkError,
        "has no Q8_0; name one as ORG/NAME:TYPE or hf://org/name/FILE, there are",
    ),
    ("org/name:Q4_K", GGUF, NetworkError, "has no Q4_K; name one"),
    ("org/name", files("a.gguf", "b.gguf"), NetworkError, "has no Q4_K_M; name one as"),
    ("org/name:F16", files("a-F16.gguf", "b-F16.gguf"), NetworkError, "has 2 files of type F16; name one"),
    (
        "hf://org/name/x.gguf",
        GGUF,
        NetworkError,
        "has no file x.gguf; it has BF16/m-BF16-00001-of-00002.gguf, m-Q2",
    ),
    ("org/name:BF16", GGUF[:-1], NetworkError, "has no file BF16/m-BF16-00002-of-00002.gguf"),
    ("org/name", SHARDS, NetworkError, "must have all 2 shards of its weights, some are missing"),
    ("org/name", files("config.json", "pytorch_model.bin"), UnsupportedError, "has pickled weights alone"),
    ("org/name", files("README.md"), NetworkError, "must have a GGUF file, or config.json and safe"),
    ("org/name", [], NetworkError, "it has no files"),
    ("org/name", files(*(f"{i:02}.gguf" for i in range(20))), NetworkError, "07.gguf and 12 more"),
]


@pytest.mark.parametrize(("text", "there", "kind", "words"), NOT_CHOSEN)
def test_what_is_not_there(text: str, there: list[HubFile], kind: type[CkError], words: str) -> None:
    name = parse(text)
    assert name is not None
    with pytest.raises(kind) as caught:
        choose_model(name, there)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_adapter_is_two_files() -> None:
    there = files("README.md", "adapter_config.json", "adapter_model.safetensors", "config.json")
    name = HubName("org/name")
    assert [f.name for f in choose_adapter(name, there).files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    with pytest.raises(NetworkError, match=r"an adapter must have adapter_config.json, it has config.json"):
        choose_adapter(name, files("config.json"))
