"""Wordings of the installed cell2sentence give, string for string, what its own formatters give."""

from __future__ import annotations

import importlib
import random
import sys
import types
from importlib import util
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, ConfigError, DataError, MissingDependencyError
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS, PromptSet, SampleGeneration, render_text
from c2s.tasks.installed import INSTALLED_TASKS, installed_wordings

K = 3
SYMBOLS = ("Cd4", "B2m", "mt-Nd1", "Xist", "H2-K1")
ROWS = [[3, 1, 0, 2], [4], [2, 4, 1], []]


@pytest.fixture(scope="module")
def formatters():
    spec = util.find_spec("cell2sentence")
    if spec is None:
        pytest.skip("cell2sentence is not installed: pip install --no-deps cell2sentence==1.2.0")
    package = types.ModuleType("cell2sentence")  # its __init__ imports plotting packages that formatters do not need
    package.__path__, package.__spec__ = list(spec.submodule_search_locations), spec
    before = {name: sys.modules.pop(name, None) for name in ("cell2sentence", "cell2sentence.prompt_formatter")}
    sys.modules["cell2sentence"] = package  # and nothing else is taken out again: datasets cannot be imported twice
    try:
        yield importlib.import_module("cell2sentence.prompt_formatter")
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


@pytest.fixture(scope="module")
def sentences():
    obs = pd.DataFrame(
        {
            "organism": "Mus musculus", "cell_type": ["T cell", "B cell", "NK", "mast"], "tissue": "lymph node",
            "abstract": "We looked. We found.",
        },
        index=list("abcd"),
    )  # fmt: skip
    return CellSentences.from_lists(ROWS, GeneVocabulary(SYMBOLS, "mouse"), obs=obs)


def theirs(formatters, task, sentences, samples, wording):
    """Return prompts and responses of their formatter with every choice made for ``wording``."""
    import datasets

    upper = [" ".join(genes).upper() for genes in (sentences.genes(i) for i in range(len(sentences)))]
    cells = datasets.Dataset.from_dict({"cell_sentence": upper, **sentences.obs.to_dict("list")})
    names = {
        "cell_type_annotation": "cell_type_prediction", "cell_generation": "cell_type_generation",
        "tissue_inference": "tissue_prediction", "sample_generation": "tissue_conditional_generation",
        "sample_abstract": "natural_language_interpretation",
    }  # fmt: skip
    with mock.patch.object(random, "choice", lambda options: options[wording]), mock.patch.object(random, "seed"):
        if task.startswith("cell_"):
            out = formatters.C2SPromptFormatter(names[task], top_k_genes=K).format_hf_ds(cells)
        else:
            groups = {"multi_cell_groupings": [list(map(int, rows)) for rows in samples.rows]}
            first = [rows[0] for rows in samples.rows]
            columns = {
                name: [sentences.obs[name].iloc[i] for i in first] for name in ("organism", "tissue", "abstract")
            }
            index = datasets.Dataset.from_dict(groups | columns)
            out = formatters.C2SMultiCellPromptFormatter(names[task], top_k_genes=K).format_hf_ds(cells, index)
    return list(zip(out["model_input"], out["response"], strict=True))


def ours(task, sentences, samples, wording):
    arguments = {
        "cell_type_annotation": {"labels_key": "cell_type"},
        "cell_generation": {"conditions": {"cell_type": "cell_type", "organism": "organism"}},
        "tissue_inference": {"samples": samples, "tissue_key": "tissue"},
        "sample_generation": {"samples": samples, "by_key": "tissue"},
        "sample_abstract": {"samples": samples, "abstract_key": "abstract"},
    }[task]
    made = TASKS[task](n_genes=K, wording=wording, prompts="cell2sentence")
    examples = made.examples(sentences, **arguments)
    symbols = sentences.vocabulary.symbols
    return [tuple(render_text(part, symbols, made.style) for part in (e.prompt, e.answer)) for e in examples]


@pytest.mark.parametrize("task", INSTALLED_TASKS)
def test_every_wording_is_theirs_string_for_string(formatters, sentences, task):
    from c2s.tasks import Samples

    samples = Samples((np.array([0, 2, 1]), np.array([3]), np.array([2, 3])), ("a", "b", "c"))
    if task == "sample_generation":  # theirs asks for cells without genes, ours does not: cell 3 has none
        samples = Samples((np.array([0, 2, 1]), np.array([1]), np.array([2])), ("a", "b", "c"))
    prompts = PromptSet.from_installed("cell2sentence", task)
    assert prompts.version == "1.2.0"
    assert len(prompts) == {"cell_generation": 10, "sample_generation": 14}.get(task, 15)
    for wording in range(len(prompts)):
        expected = theirs(formatters, task, sentences, samples, wording)
        assert len(expected) == (3 if "sample" in task or "tissue" in task else 4)
        if task == "cell_generation":
            assert expected.pop()[1] == "."
        assert ours(task, sentences, samples, wording) == expected


def test_an_answer_of_theirs_is_read_back(formatters, sentences):
    from c2s.tasks import Samples

    samples = Samples((np.array([0, 2, 1]),), ("a",))
    task = SampleGeneration(n_genes=K, prompts="cell2sentence")
    ((_, response),) = theirs(formatters, "sample_generation", sentences, samples, 0)
    cells = task.parse(response, vocabulary=sentences.vocabulary, n_cells=3)
    assert [cell.tolist() for cell in cells] == [[3, 1, 0], [2, 4, 1], [4]]


def test_a_missing_organism_is_named(formatters, sentences):
    task = TASKS["cell_type_annotation"](prompts="cell2sentence", wording=0)
    with pytest.raises(DataError, match="needs 'organism'"):
        task.prompt(sentences, 0)


def test_without_the_package_the_install_command_is_named():
    with (
        mock.patch.object(util, "find_spec", return_value=None),
        pytest.raises(MissingDependencyError, match="pip install --no-deps cell2sentence==1.2.0"),
    ):
        installed_wordings("cell2sentence", "cell_generation")


def test_other_packages_tasks_and_versions_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="choose 'cell2sentence'"):
        PromptSet.from_installed("another", "cell_generation")
    with pytest.raises(ConfigError, match="no wordings for 'niche_label'.*PromptSet.of"):
        PromptSet.from_installed("cell2sentence", "niche_label")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    with (
        mock.patch.object(util, "find_spec", return_value=spec),
        pytest.raises(ArtefactError, match="Known is version 1.2.0"),
    ):
        installed_wordings("cell2sentence", "cell_generation")


def test_none_of_their_wordings_is_in_ours():
    if util.find_spec("cell2sentence") is None:
        pytest.skip("cell2sentence is not installed")
    folder = Path(__file__).resolve().parents[2] / "c2s" / "tasks" / "wordings"
    own = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.json")).lower().split()
    own_runs = {tuple(own[i : i + 8]) for i in range(len(own))}
    for task in INSTALLED_TASKS:
        for prompt in PromptSet.from_installed("cell2sentence", task).prompts:
            words = prompt.lower().split()
            assert not own_runs & {tuple(words[i : i + 8]) for i in range(len(words) - 7)}, prompt
