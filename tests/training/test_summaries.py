"""Summaries: every number and name is read back and held against ``obs``."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from c2s.errors import ConfigError, DataError
from c2s.training.summaries import SHOWN_TYPES, TEMPLATES, summaries, summary_facts


@pytest.fixture
def obs():
    rng = np.random.default_rng(3)
    n = 2400
    types = [f"type {letter}" for letter in "ABCDEFGHIJK"]
    chosen = rng.choice(types, size=n, p=np.r_[0.4, 0.2, 0.1, 0.1, 0.07, 0.05, 0.04, 0.02, 0.01, 0.006, 0.004])
    table = pd.DataFrame({"type": chosen, "study": rng.choice(["s", "t"], size=n), "organism": "mouse"})
    table["tissue"] = np.where(table.study == "s", rng.choice(["skin", "lung"], size=n, p=[0.8, 0.2]), None)
    table["donor"] = np.where(table.study == "s", rng.choice(["d1", "d2", "d3"], size=n), "d9")
    return table


def test_every_summary_says_what_obs_says(obs):
    facts = summary_facts(obs, labels_key="type", dataset_key="study")
    assert [each.dataset for each in facts] == ["s", "t"]
    for summary in summaries(facts, per_dataset=len(TEMPLATES)):
        mine = obs[obs.study == summary.facts.dataset]
        counts = sorted(Counter(mine.type).items(), key=lambda pair: (-pair[1], pair[0]))
        said = dict(re.findall(r"(type [A-K]) \((\d+|under 1) %\)", summary.text))
        assert list(said) == [label for label, _ in counts[:SHOWN_TYPES]]
        for label, n in counts[:SHOWN_TYPES]:
            assert said[label] == "under 1" or abs(int(said[label]) - 100 * n / len(mine)) <= 0.5
        assert re.search(r"([\d,]+) cells", summary.text)[1] == f"{len(mine):,}"
        rest = counts[SHOWN_TYPES:]
        more, share = re.search(r"and (\d+) more \((\d+) %\)", summary.text).groups()
        assert int(more) == len(rest)
        assert abs(int(share) - 100 * sum(n for _, n in rest) / len(mine)) <= 0.5
        assert "mouse" in summary.text
        assert ("skin and lung" in summary.text) == (summary.facts.dataset == "s")
        assert bool(re.search("3 donors|Donors: 3", summary.text)) == (summary.facts.dataset == "s")
        assert "  " not in summary.text


def test_without_a_column_of_data_sets_all_cells_are_one(obs):
    (facts,) = summary_facts(obs, labels_key="type", columns={"tissue": "study"})
    assert (facts.dataset, facts.n_cells, facts.organisms) == ("", len(obs), ())
    assert set(facts.tissues) == {"s", "t"}
    assert summaries([facts], seed=1) == summaries([facts], seed=1)
    assert len({summaries([facts], seed=seed)[0].template for seed in range(20)}) == len(TEMPLATES)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"labels_key": "none"}, DataError, "none"),
        ({"columns": {"age": "x"}}, ConfigError, "it can tell organism, tissue, assay, donor"),
    ],
)
def test_what_does_not_fit_is_named(obs, settings, error, message):
    with pytest.raises(error, match=message):
        summary_facts(obs, **({"labels_key": "type"} | settings))


def test_templates_are_not_repeated():
    with pytest.raises(ConfigError, match="number of templates"):
        summaries([], per_dataset=len(TEMPLATES) + 1)
