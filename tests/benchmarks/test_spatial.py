"""The spatial benchmark: layers by rule, questions without leaks, rows that find what was planted, figures of runs."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from benchmarks.spatial import c2s_rows
from benchmarks.spatial import run as benchmark
from benchmarks.spatial.layers import LAYERS, layers_of
from benchmarks.spatial.questions import BLOCKS, RADIUS, Question, cortex, folds_of, mouse_knowledge, questions
from benchmarks.spatial.rows import linear, pair_features, rows
from c2s.spatial import GenePair, Neighbourhoods, PairKnowledge


@pytest.fixture(scope="module")
def question():
    """Cells on a line; one kind of neighbourhood holds a ligand's cells beside its receptor's, the other does not."""
    rng = np.random.default_rng(0)
    n = 240
    label = np.where(np.arange(n) // 4 % 2 == 0, "pair", "alone")
    counts = rng.poisson(2, (n, 8)) + 1.0
    counts[:, :2] = 0
    counts[0::2, 0] = 3  # the ligand in every other cell
    counts[1::2, 1] = 3 * (label[1::2] == "pair")  # its receptor in the cells between, in one kind of place
    genes = ["Sst", "Sstr2", *(f"Gene{i}" for i in range(6))]
    cells = ad.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes))
    cells.obs_names = [f"c{i}" for i in range(n)]
    around = Neighbourhoods.of(np.column_stack([np.arange(n) + 10 * (np.arange(n) // 4), np.zeros(n)]), radius=1.5)
    knowledge = PairKnowledge(
        (GenePair(("Sst",), ("Sstr2",)), GenePair(("Gene0",), ("Gene1",))), "ligand_receptor", "planted", "mouse"
    )
    rows = np.arange(n)[:, None]
    return Question(
        cells, around, rows[:160], rows[160:], label[:160], label[160:], np.arange(160) // 40, "niche_label",
        {"lr": knowledge, "interactions": PairKnowledge((), "interaction", "none", "mouse")},
    )  # fmt: skip


def test_layers_are_those_of_the_cells_around():
    places = np.column_stack([np.zeros(60), np.arange(60)])
    types = np.array(["Astro", *["eL6"] * 29, *["eL4"] * 29, "HPC"])
    found = layers_of(places, types)
    assert found[0] == "layer 6" and found[59] == "layer 4"  # an astrocyte; a lost cell
    assert found[10] == "layer 6" and found[50] == "layer 4" and set(found) == {"layer 6", "layer 4"}


def test_pair_features_find_partners_side_by_side(question):
    features = pair_features(question, [question.knowledge["lr"]])
    assert features.shape == (240, 4)
    ligand_here = features[:, 0]
    assert (ligand_here[::2] > 0).tolist() == (np.arange(120) // 2 % 2 == 0).tolist() and not ligand_here[1::2].any()
    found, chosen = linear(question, 0, features=(), told="lr")
    assert (found.columns[found.to_numpy().argmax(axis=1)] == question.test_labels).mean() == 1
    assert chosen["features"] == 4
    nothing, _ = linear(question, 0, features=())
    assert np.allclose(nothing, 0.5)


def test_many_features_are_turned_without_loss(question):
    few = linear(question, 0, features=("genes",))[0]
    same = linear(question, 0, features=("genes",) * 25)[
        0
    ]  # 200 features of 160 cells: 25 copies act as a weaker penalty
    assert (few.to_numpy().argmax(1) == same.to_numpy().argmax(1)).mean() > 0.9


def test_features_of_groups(question):
    groups = [np.array([0, 1]), np.array([0, 4]), np.array([1, 2])]
    told = Question(
        question.cells, question.around, groups, groups[:1], np.array(["Yes", "No", "Yes"]), np.array(["Yes"]), np.arange(3), "same_niche", question.knowledge
    )  # fmt: skip
    features = pair_features(told, [question.knowledge["lr"]])
    assert features[:, 0].tolist() == [1, 0, 1, 1]  # 2 is a ligand's cell beside 1
    assert told.of_groups and not question.of_groups


def scored(labels, said, seconds=1.0):
    table = pd.get_dummies(pd.Series(said)).reindex(columns=["No", "Yes"], fill_value=0).astype(float)
    return {
        "truth": list(labels), "classes": ["No", "Yes"], "predicted": table.to_numpy().tolist(), "train": 4, "chosen": {}, "seconds": seconds,
    }  # fmt: skip


def test_figures_pool_folds_and_pair_rows():
    at = "starmap, same layer"
    truth = ["Yes", "Yes", "No", "No"]
    made = {}
    for fold in folds_of(at):
        for seed in range(2):
            made[benchmark.Key(at, "differences", fold, seed)] = scored(truth, ["Yes", "No", "No", "Yes"])
            made[benchmark.Key(at, "differences+both", fold, seed)] = scored(truth, truth)
            made[benchmark.Key(at, "differences+permuted", fold, seed)] = scored(truth, ["Yes", "Yes", "No", "Yes"])
            made[benchmark.Key(at, "majority", fold, seed)] = scored(truth, ["Yes"] * 4)
    found = {figure.name: figure for figure in benchmark.figures(made)}
    assert found[f"{at}, differences: balanced accuracy"].value == 0.5
    assert found[f"{at}, differences: balanced accuracy"].n == 16
    assert found[f"{at}, differences+both: macro F1"].value == 1
    gain = found[f"{at}: balanced accuracy of differences+both minus that of differences+permuted"]
    assert gain.value == pytest.approx(0.25) and gain.low < 0.25 < gain.high and gain.n == 32 and gain.seeds == [0, 1]
    assert benchmark.sizes(made)[at].endswith("16 asked")
    assert "0.500, 0.500" in benchmark.told(made, at, "differences")


def test_the_place_of_a_run_depends_on_what_decides_it(tmp_path):
    def place(row, threads, fold="0"):
        key = benchmark.Key("starmap, layer", row, fold, 0)
        return benchmark.run_path(key, threads=threads, cache=tmp_path)

    assert place("cell", 1) == place("cell", 2) and place("cell", 1) != place("cell", 1, "1")
    assert place("c2s_mini", 1) != place("c2s_mini", 2)
    assert benchmark.is_random("starmap, layer", "cell+neighbours+permuted") and not benchmark.is_random(
        "her2st, region", "cell"
    )


def test_a_language_model_is_a_row_like_the_others(question, monkeypatch):
    monkeypatch.setattr(c2s_rows, "STEPS", 3)
    found, chosen = c2s_rows.language_model(question, 0, told="lr")
    assert list(found.columns) == ["alone", "pair"] and len(found) == 80
    assert np.allclose(found.sum(axis=1), 1) and chosen["steps"] == 3
    assert set(c2s_rows.c2s_rows("starmap, layer")) >= {"c2s_mini", "c2s_mini+permuted"}
    assert set(c2s_rows.c2s_rows("her2st, region")) == {"c2s_mini"}


@pytest.mark.real
def test_real_questions_do_not_leak(data_dir):
    cells, around = cortex(data_dir)
    assert set(cells.obs["label"]) == set(LAYERS.values())
    asked = questions(data_dir)
    every = []
    for fold in folds_of("starmap, layer"):
        question = asked["starmap, layer"](fold, 0)
        train, test = np.concatenate(question.train), np.concatenate(question.test)
        near = np.linalg.norm(around.coordinates[train][:, None] - around.coordinates[test][None], axis=-1)
        assert near.min() > 2 * RADIUS and set(question.test_labels) <= set(question.train_labels)
        assert not set(np.concatenate(around.rows(train))) & set(np.concatenate(around.rows(test)))
        every += test.tolist()
    assert sorted(every) == list(range(cells.n_obs)) and len(folds_of("starmap, layer")) == BLOCKS[0]
    decision = asked["starmap, same neighbourhood"]("0", 1)
    assert (decision.test_labels == "Yes").mean() == 0.5
    assert not set(np.concatenate(decision.train)) & set(np.concatenate(decision.test))
    known = mouse_knowledge(data_dir)
    assert all(set(each.genes) <= set(cells.var_names) for each in known.values())
    assert any(len(side) > 1 for pair in known["lr"].pairs for side in pair)
    patient = asked["her2st, region"]("C", 0)
    assert len(patient.test) == 167 and set(rows("her2st, region")) >= {"majority", "knn_pca", "cell", "top_genes"}
