"""All that ck does with a model file before a program of it runs: what hostile files are given to."""

import os

from ck.frontend.chat_template import template_of
from ck.frontend.model import ModelSource, open_file, open_model
from ck.runtime.compilation import model_graph, plan_of
from ck.runtime.options import Options

TEXT = "Hi <s>\u2581 \n\u00e9\U0001f600</s>"


def read_header(path: str | os.PathLike[str]) -> ModelSource:
    """Header, numbers, tensors' rows, vocabulary, tokenizer and template. Raises what they raise."""
    file = open_file(path)
    source = open_model(file)
    _ = file.name, file.licence, file.label, file.skipped, file.sampling, file.words(), file.record()
    for name in file.tensors:
        file.rows(name, 0, 1)
    tokenizer = file.tokenizer()
    tokenizer.decode(tokenizer.encode(TEXT, parse_special=True))
    tokenizer.decode(tokenizer.encode(TEXT))
    if file.chat_template is not None:
        template_of(file.chat_template, tokenizer)
    return source


def read_all(path: str | os.PathLike[str]) -> None:
    """That and the graph."""
    source = read_header(path)
    options = Options(None, "f16", None, 8)
    model_graph(source, plan_of(source, options), options)
