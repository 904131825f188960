"""The annotation benchmark: the table of labels, the splits, runs that are kept, figures of runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.annotation import run as benchmark
from benchmarks.annotation.asked_rows import Asked
from benchmarks.annotation.labels import PBMC3K_TO_PBMC4K
from benchmarks.annotation.splits import Split, held_out, labelled, splits
from c2s.baselines.linear import Majority
from c2s.errors import MissingDependencyError
from c2s.models.backends.base import Completion
from tests.baselines.planted import planted


@pytest.fixture(scope="module")
def split():
    (train, labels), (test, truth) = planted(20, seed=0), planted(10, seed=1)
    train.obs["label"], test.obs["label"] = labels, truth
    return Split(train, test)


def test_held_out_cells_are_a_share_of_every_label():
    labels = np.repeat(["a", "b", "c"], [100, 10, 2])
    mask = held_out(labels, 0)
    assert [int(mask[labels == name].sum()) for name in "abc"] == [30, 3, 1]
    assert not np.array_equal(mask, held_out(labels, 1))


def test_a_run_says_what_it_found_and_what_it_cost(split):
    found = benchmark.one_run(split, Majority, 0)
    assert found["scores"]["accuracy"]["value"] == 0.25 and found["cells_per_second"] > 0
    assert found["train"] == 80 and found["test"] == 40

    def missing():
        raise MissingDependencyError("not installed")

    assert benchmark.one_run(split, missing, 0) == {"reason": "not installed"}


def test_a_model_that_answers_in_words_is_a_row(split):
    heard = []

    class Words:
        """Right about one cell in two; the other answers are no label."""

        def complete(self, prompts, *, temperature, n=1, **settings):
            assert temperature == 0 and n == 1
            heard.extend(prompts)
            truth = split.test.obs["label"]
            said = [label if i % 2 else "I cannot tell" for i, label in enumerate(truth)]
            return [[Completion(text, "stop")] for text in said]

    found = benchmark.one_run(split, lambda: Asked(Words(), "words-7b"), 0)
    scores = {name: score["value"] for name, score in found["scores"].items()}
    assert scores["parse rate"] == 0.5 and scores["accuracy"] == pytest.approx(0.5)
    assert "cells/s" not in benchmark.told(found)
    speed = benchmark.figures({("a", "asked_m", 0): found})[-1]
    assert (speed.value, speed.reason) == (None, "the speed of a server is its own, and answers are kept")
    assert found["name"] == "words-7b, told the labels, asked in words"
    assert len(heard) == split.test.n_obs
    assert all("type 0; type 1; type 2; type 3" in prompt and "GENE" in prompt for prompt in heard)


def test_a_row_goes_with_its_sources():
    codes = [benchmark.code_of(row) for row in ("majority", "c2s_mini", "asked_m", "scgpt_architecture")]
    assert len(set(codes)) == 4
    assert benchmark.code_of("knn_pca") == codes[0]


def test_figures_are_medians_with_the_widest_interval_and_the_bar(split):
    one = benchmark.one_run(split, Majority, 0)
    at = "pbmc3k to pbmc4k"

    def scored(value):
        score = {"value": value, "low": value - 0.1, "high": value + 0.1, "reason": None}
        return {**one, "scores": {"macro F1": score}}

    made = {(at, benchmark.BAR_ROW, 0): scored(0.8)}
    made |= {(at, "c2s_mini", seed): scored(value) for seed, value in enumerate((0.7, 0.75, 0.9))}
    made |= {(at, "celltypist", 0): {"reason": "not installed"}}
    found = {figure.name: figure for figure in benchmark.figures(made)}
    figure = found[f"{at}, c2s_mini: macro F1"]
    assert (figure.value, figure.low, figure.high) == (0.75, pytest.approx(0.6), pytest.approx(1.0))
    assert figure.met is False and "0.800" in figure.bar
    assert found[f"{at}, celltypist: macro F1"].reason == "not installed"
    assert benchmark.sizes(made)[at].startswith("80 cells")


def test_every_run_has_its_place(tmp_path):
    places = [
        benchmark.run_path(split, row, seed, made=tmp_path)
        for split in ("a, b", "a c") for row in ("majority", "knn_pca") for seed in (0, 1)
    ]  # fmt: skip
    assert len(set(places)) == 8 and places[0] == tmp_path / "a_b" / "majority-0.json"


def test_what_was_not_run_is_in_the_card_with_the_command_that_runs_it(split):
    grid = [("a, b", "majority", 0), ("a, b", "knn_pca", 0), ("a, b", "knn_pca", 1)]
    absent = benchmark.missing(grid, {grid[0]: benchmark.one_run(split, Majority, 0)})
    assert [figure.name for figure in absent] == ["a, b, knn_pca: macro F1"]
    assert "--rows knn_pca --splits 'a, b'" in absent[0].reason and absent[0].value is None


def test_c2s_is_measured_against_the_same_seeds(split):
    one = benchmark.one_run(split, Majority, 0)

    def scored(value):
        return {**one, "scores": {"macro F1": {"value": value, "low": value, "high": value, "reason": None}}}

    made = {(benchmark.FINE, benchmark.BAR_ROW, seed): scored(value) for seed, value in enumerate((0.9, 0.8, 0.7))}
    made |= {
        (benchmark.FINE, "c2s_mini", 1): scored(0.85),
        (benchmark.FINE, "logistic_variable_genes", 1): scored(0.88),
    }
    found = {figure.name: figure for figure in benchmark.figures(made)}
    ours = found[f"{benchmark.FINE}, c2s_mini: macro F1"]
    assert ours.met and "0.800" in ours.bar
    gap = found[f"{benchmark.FINE}: macro F1 of c2s_mini minus that of logistic_variable_genes, points"]
    assert gap.value == pytest.approx(-3) and gap.met is False and gap.seeds == [1]


@pytest.mark.real
def test_every_label_of_the_real_cells_has_a_line(data_dir):
    assert set(labelled(data_dir, "pbmc3k").obs["label"]) == set(PBMC3K_TO_PBMC4K)
    across = splits(data_dir)["pbmc3k to pbmc4k"](0)
    assert set(across.train.obs["label"]) == set(across.test.obs["label"]) == {"T_CD4", "T_CD8", "B", "NK", "MNP"}
    assert across.train.n_obs == 2624 and across.test.n_obs == 2150
    fine = splits(data_dir)["pbmc3k, fine labels"](0)
    assert not set(fine.train.obs_names) & set(fine.test.obs_names)
    species = splits(data_dir)["pancreas, human to mouse"](0)
    assert set(species.train.obs["Batch"]) == {"human"} and species.test.n_obs == 175
