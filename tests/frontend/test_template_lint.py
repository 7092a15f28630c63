"""What `lint_template` finds in templates that do not fit a vocabulary of <s>, </s> and <|im_end|>."""

from collections.abc import Callable

import pytest

from ck.errors import MalformedError, UsageError
from ck.frontend.chat_template import template_of
from ck.frontend.gguf import GgufFile
from ck.frontend.model import open_file
from ck.frontend.template_lint import Finding, lint_template
from ck.frontend.tokenizer import Tokenizer
from tests.frontend.make_gguf import write_tiny
from tests.models import model_path

TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
ASKS = "{{ 'assistant: ' if add_generation_prompt }}"
FITS = TURNS + ASKS
Lint = Callable[[str], list[Finding]]


@pytest.fixture(scope="module", params=[False, True], ids=["pieces", "pairs"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", request.param)
    return Tokenizer.from_gguf(GgufFile(path))


@pytest.fixture
def lint(tokenizer: Tokenizer) -> Lint:
    """Findings of a template's source; the note that a tokenizer which adds BOS gives rise to is left out."""

    def run(source: str) -> list[Finding]:
        template = template_of(source, tokenizer)
        try:
            found = lint_template(template, tokenizer)
        finally:
            template.close()
        return [finding for finding in found if (finding.rule, finding.level) != ("bos", "note")]

    return run


def test_what_fits_is_left_alone(lint: Lint) -> None:
    assert lint(FITS) == []
    assert lint("{{ bos_token }}" + FITS) == []
    # A thought in front of a reply, and white space before what ends it.
    assert (
        lint(FITS.replace("{{ m.content }}", "{{ '<x>' if m.role == 'assistant' }}{{ m.content }}\n ")) == []
    )
    # The end of what is asked may lead to the reply.
    source = "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>{% else %}"
    assert lint(source + "[A]{{ m.content }}[/A]{% endif %}{% endfor %}") == []


WRONG = [
    (FITS.replace("<|im_end|>", "\n"), "turn-end", "after a reply the template writes user:"),
    (FITS.replace("<|im_end|>", "<s>"), "turn-end", "after a reply the template writes <s>, which does not"),
    (FITS.replace("<|im_end|>", "<|eot|>"), "turn-end", "the template writes <|eot|>user: And whi"),
    (FITS.replace("<|im_end|>", "<|eot|>"), "tokens", "<|eot|> is no token of this vocabulary"),
    (FITS.replace("{{ m.content }}", ""), "turn-end", "a reply is missing from what the next turn sees"),
    (TURNS, "generation-prompt", "nothing is written to ask for a reply"),
    ("<s><s>" + FITS, "bos", "a prompt begins with <s> twice"),
    (
        "{{ bos_token }}<|a|><|b|><|c|><|d|><|e|><|a|>" + FITS,
        "tokens",
        "<|c|>, <|d|> and 1 more are no tokens",
    ),
]
NOTES = [
    (
        FITS + "{# <start_of_image> #}",
        "tokens",
        "<start_of_image>, which the template names, the vocabulary does",
    ),
    ("{{ raise_exception('no') if messages[0].role == 'system' }}" + FITS, "system", "is refused"),
    (
        FITS.replace("messages %}", "messages if m.role != 'system' %}"),
        "system",
        "a system message is left out",
    ),
    (FITS + "{# </think> #}", "thinking", "<think> is known, no switch turns it on or off"),
    (FITS + "{# https://example.org/a b #}", "addresses", "the template names https://example.org/a"),
]


@pytest.mark.parametrize(("source", "rule", "text"), WRONG)
def test_what_goes_wrong_is_a_warning(source: str, rule: str, text: str, lint: Lint) -> None:
    found = lint(source)
    assert [finding.level for finding in found if finding.rule == rule] == ["warning"], found
    assert any(text in finding.text for finding in found if finding.rule == rule), found


@pytest.mark.parametrize(("source", "rule", "text"), NOTES)
def test_what_is_to_know_is_a_note(source: str, rule: str, text: str, lint: Lint) -> None:
    (finding,) = lint(source)
    assert (finding.rule, finding.level) == (rule, "note")
    assert text in finding.text


def test_bos_that_the_tokenizer_adds_is_told(tokenizer: Tokenizer) -> None:
    for source, text in (
        ("{{ bos_token }}" + FITS, "the template writes <s> and the tokenizer adds it"),
        (FITS, "the template does not write <s>, ck puts it first"),
    ):
        template = template_of(source, tokenizer)
        found = [finding for finding in lint_template(template, tokenizer) if finding.rule == "bos"]
        template.close()
        assert len(found) == tokenizer.add_bos
        assert all(text in finding.text and finding.level == "note" for finding in found)


def test_what_cannot_be_linted_is_an_error(lint: Lint) -> None:
    with pytest.raises(MalformedError, match="chat template: "):
        lint("{% if")
    with pytest.raises(UsageError, match="chat template: never"):
        lint("{{ raise_exception('never') }}")


def test_the_demo_model_fits() -> None:
    file = open_file(model_path("smollm2-135m"))
    tokenizer = file.tokenizer()
    assert file.chat_template is not None
    template = template_of(file.chat_template, tokenizer)
    assert lint_template(template, tokenizer) == []
    template.close()
