"""Tasks in words go through the tokenizer in which a gene is a token, and come back."""

from __future__ import annotations

import pytest

from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.tasks import TASKS
from tests.tasks.all_tasks import VOCABULARY, cases, make, plain


@pytest.fixture(scope="module")
def tokens():
    return PartTokenizer(build_tokenizer(VOCABULARY, ["Cell 1: B cell", "lymph node. Yes. No."]), VOCABULARY)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "perturbation_response"])
def test_answers_survive_their_tokens(tokens, name):
    positional, named, values, reading = cases(3)[name]
    task = make(name, 3, 0)
    for example, value in zip(task.examples(*positional, **named), values, strict=True):
        assert tokens.render(example.prompt)
        assert plain(task.parse(tokens.parts(tokens.render(example.answer)), **reading)) == plain(value)
