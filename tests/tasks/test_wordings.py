"""Every task in words: its set of wordings, and a prompt that says how many genes a cell really shows."""

from __future__ import annotations

import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS, Genes
from c2s.tasks.prompt_set import prompt_set

IN_WORDS = sorted(set(TASKS) - {"perturbation_response"})
VOCABULARY = GeneVocabulary(tuple("ABCDEFGH"))


@pytest.mark.parametrize("name", IN_WORDS)
def test_every_task_in_words_has_several_wordings_that_say_different_things(name):
    prompts = prompt_set("c2s", name)
    chosen = prompts.choose(0, 200)
    assert len(set(chosen.tolist())) >= 4
    assert (chosen == prompts.choose(0, 200)).all()
    assert (chosen != prompts.choose(1, 200)).any()


def test_a_sample_is_asked_about_in_words_and_its_answer_read_back():
    obs = pd.DataFrame({"tissue": ["lung", "lung"]}, index=["a", "b"])
    sentences = CellSentences.from_lists([[3, 1, 2], [0]], VOCABULARY, obs=obs)
    task = TASKS["tissue_inference"](n_genes=2)
    prompt = task.prompt(sentences, [0, 1])
    shown = [part.ids.tolist() for part in prompt if isinstance(part, Genes)]
    assert shown == [[3, 1], [0]]
    assert task.parse(task.answer("lung")) == "lung"
    with pytest.raises(ConfigError, match="n_genes=0"):
        TASKS["tissue_inference"](n_genes=0)
