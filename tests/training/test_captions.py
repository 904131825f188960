"""Captions: every sentence is read back and held against the cells."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.cells.ontology import CellOntology
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences
from c2s.tasks import ClusterCaptioning, draw_samples
from c2s.training.captions import TEMPLATES, captions, cluster_facts
from c2s.training.composition import joined, percent

OBO = """[Term]
id: CL:1
name: lymphocyte
def: "A small cell. It is round." []

[Term]
id: CL:2
name: B cell
def: "Makes antibodies" []
is_a: CL:1

[Term]
id: CL:3
name: T cell
is_a: CL:1
"""
ONTOLOGY = CellOntology.parse(OBO)
VOCABULARY = GeneVocabulary(tuple(f"G{i}" for i in range(12)))
TYPES = ("B cell", "T cell", "lymphocyte", "odd one", "rare")


@pytest.fixture
def sentences():
    rng = np.random.default_rng(1)
    clusters = rng.choice(["0", "1", "2", "10"], size=120)
    first = {"0": 0, "1": 1, "2": 2, "10": 3}
    labels = [TYPES[(first[c] + (rng.random() < 0.3) * int(rng.integers(1, 5))) % 5] for c in clusters]
    rows = [[first[c], *rng.permutation(np.arange(4, 12))[:5]] for c in clusters]
    obs = pd.DataFrame({"cluster": clusters, "type": labels, "organism": "mouse"}, index=map(str, range(120)))
    obs["tissue"] = np.where(obs.cluster == "0", "skin", rng.choice(["lung", "gut"], size=120))
    return CellSentences.from_lists(rows, VOCABULARY, obs=obs)


def whole_percent(part, whole):
    exact = 100 * part / whole
    rounded = int(np.floor(exact + 0.5))
    if rounded == 0 and part:
        return "under 1 %"
    return "over 99 %" if rounded == 100 and part < whole else f"{rounded} %"


def test_every_caption_says_what_the_cells_say(sentences):
    facts = cluster_facts(
        sentences, cluster_key="cluster", labels_key="type", ontology=ONTOLOGY, descriptions={"CL:1": "Kept. Not kept."}
    )
    obs = sentences.obs
    texts = {"B cell": "Makes antibodies.", "lymphocyte": "Kept."}
    found = captions(facts, per_cluster=len(TEMPLATES), seed=2)
    assert sorted(each.facts.cluster for each in found) == sorted([*"012", "10"] * len(TEMPLATES))
    for caption in found:
        mine = obs[obs.cluster == caption.facts.cluster]
        counts = sorted(Counter(mine.type).items(), key=lambda pair: (-pair[1], pair[0]))
        assert caption.facts.composition == tuple(counts)
        assert caption.facts.n_cells == len(mine)
        left = caption.text
        markers = [marker.gene for marker in caption.facts.markers]  # the rule is held to counting in its own tests
        assert markers[0] == f"G{['0', '1', '2', '10'].index(caption.facts.cluster)}"
        majority = counts[0][0]
        said = [majority, whole_percent(counts[0][1], len(mine)), joined(markers), "mouse", texts.get(majority, "")]
        said += [f"{label} ({whole_percent(n, len(mine))})" for label, n in counts[1:4]]
        said += ["skin"] if caption.facts.cluster == "0" else []
        for word in said:
            assert word in left, (word, caption.text)
            left = left.replace(word, "", 1)
        # nothing is left but the template's own words: no digit, gene, tissue or type that is not a fact
        assert not re.search(r"\d|%|lung|gut|skin|G\d", left), left
        assert not any(label in left for label in TYPES)
        assert "  " not in caption.text
        assert caption.text == caption.text.strip()
        assert caption.text.endswith(".")


def test_descriptions_come_before_definitions_and_labels_may_have_a_table(sentences):
    def told(**settings):
        facts = cluster_facts(sentences, cluster_key="cluster", labels_key="type", **settings)
        return {each.composition[0][0]: (each.term, each.description) for each in facts}

    assert set(told().values()) == {(None, "")}
    found = told(ontology=ONTOLOGY, table={"odd one": "CL:2"})
    assert found["lymphocyte"] == ("CL:1", "A small cell.")
    assert found["T cell"] == ("CL:3", "")
    assert found["odd one"] == ("CL:2", "Makes antibodies.")
    assert told(ontology=ONTOLOGY)["odd one"] == (None, "")
    assert told(ontology=ONTOLOGY, descriptions={"CL:3": "T."})["T cell"] == ("CL:3", "T.")


def test_the_seed_draws_templates_and_a_cluster_does_not_depend_on_others(sentences):
    facts = cluster_facts(sentences, cluster_key="cluster", labels_key="type")
    drawn = [[each.template for each in captions(facts, per_cluster=2, seed=seed)] for seed in range(20)]
    assert drawn[0] == [each.template for each in captions(facts, per_cluster=2, seed=0)]
    assert len({tuple(each) for each in drawn}) > 1
    assert {template for each in drawn for template in each} == set(range(len(TEMPLATES)))
    assert all(len(set(each[i : i + 2])) == 2 for each in drawn for i in range(0, len(each), 2))
    assert captions(facts[1:], seed=5) == captions(facts, seed=5)[1:]


def test_captions_are_what_the_task_asks_for(sentences):
    facts = cluster_facts(sentences, cluster_key="cluster", labels_key="type", ontology=ONTOLOGY)
    texts = {each.facts.cluster: each.text for each in captions(facts)}
    labelled = sentences.with_obs(sentences.obs.assign(caption=sentences.obs["cluster"].map(texts)))
    samples = draw_samples(labelled.obs, sample_key="cluster", n_cells=4, per_group=1)
    task = ClusterCaptioning(n_genes=5)
    answers = [task.parse(each.answer) for each in task.examples(labelled, samples=samples, caption_key="caption")]
    assert answers == [texts[group].removesuffix(".") for group in samples.groups]


@given(st.integers(0, 400), st.integers(1, 400))
def test_percent_is_the_rounded_share(part, whole):
    part = min(part, whole)
    assert percent(part, whole) == whole_percent(part, whole)


def test_lists_in_words():
    assert [joined(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cluster_key": "none"}, DataError, "none"),
        ({"descriptions": {}}, ConfigError, "pass ontology="),
        ({"columns": {"assay": "x"}}, ConfigError, "it can tell organism, tissue"),
        ({"columns": {"tissue": "x"}}, DataError, "'x'"),
    ],
)
def test_what_does_not_fit_is_named(sentences, settings, error, message):
    with pytest.raises(error, match=message):
        cluster_facts(sentences, **({"cluster_key": "cluster", "labels_key": "type"} | settings))


@pytest.mark.parametrize("per_cluster", [0, len(TEMPLATES) + 1])
def test_templates_are_not_repeated(per_cluster):
    with pytest.raises(ConfigError, match="number of templates"):
        captions([], per_cluster=per_cluster)
