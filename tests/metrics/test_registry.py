"""Every task's metric is there and runs on the task's own parsed answers."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from c2s.errors import DataError
from c2s.metrics import METRICS
from c2s.metrics.generation import gene_overlap
from c2s.metrics.registry import cells_overlap, label_set_f1, pearson_delta
from c2s.results import Result
from c2s.tasks import TASKS, LanguageModelling
from tests.tasks.all_tasks import SYMBOLS, cases, make


def changes(up, down):
    """What a delta answer stands for, in its simplest form: one up, one down."""
    values = np.zeros(len(SYMBOLS))
    values[list(up)], values[list(down)] = 1, -1
    return values


@pytest.mark.parametrize("name", TASKS)
def test_the_metric_of_every_task_runs_on_its_answers(name):
    task = make(name, 3, "any")
    metric = METRICS[TASKS[name].metric]
    inputs, arguments, _, parsing = cases(3)[name]
    parsed = [task.parse(example.answer, **parsing) for example in task.examples(*inputs, **arguments)]
    if name == "perturbation_response":
        parsed = [changes(*each) for each in parsed]
    top = 100 if TASKS[name].metric == "gene_overlap" else 1
    right = metric(parsed, parsed)
    assert isinstance(right, Result)
    assert right.value == pytest.approx(top)
    assert right.n == len(parsed)
    assert metric(parsed, [None] * len(parsed)).value == 0
    half = metric([*parsed, *parsed], [*parsed, *[None] * len(parsed)], seed=1)
    assert 0 < half.value < top
    assert half.low < half.value < half.high
    assert half.seed == 1


def test_a_task_cannot_name_a_metric_that_is_not_there():
    assert {task.metric for task in TASKS.values()} <= set(METRICS)


def test_labels_by_hand():
    truths, answers = ["a", "a", "a", "b"], ["a", "a", "c", None]
    assert METRICS["accuracy"](truths, answers).value == 0.5
    assert METRICS["balanced_accuracy"](truths, answers).value == pytest.approx((2 / 3 + 0) / 2)
    assert METRICS["macro_f1"](truths, answers).value == pytest.approx((4 / 5 + 0) / 2)
    assert METRICS["accuracy"]([True, False], [True, True]).value == 0.5


def test_sets_of_labels_by_hand():
    assert label_set_f1(("a", "b"), ("b", "c", "d")) == pytest.approx(2 / 5)
    assert label_set_f1((), ("a",)) == 0
    assert np.isnan(label_set_f1((), ()))


def test_cells_of_a_sample_are_paired_as_well_as_they_can_be():
    rng = np.random.default_rng(0)
    truth = [rng.permutation(8)[:4] for _ in range(3)]
    predicted = [rng.permutation(8)[:4] for _ in range(4)]
    best = max(
        sum(gene_overlap(list(one), list(predicted[j])) for one, j in zip(truth, order)) / 3
        for order in permutations(range(4), 3)
    )
    assert cells_overlap(truth, predicted) == pytest.approx(best)
    assert cells_overlap(truth, truth[::-1]) == 100
    assert cells_overlap(truth, truth[:1]) == pytest.approx(100 / 3)
    assert cells_overlap(truth, []) == 0
    assert METRICS["gene_overlap"]([truth], [truth[::-1]]).value == 100


def test_a_gene_named_twice_counts_once():
    assert METRICS["gene_overlap"]([[1, 2, 3, 4]], [[1, 1, 2, 2]]).value == 50


def test_changes_by_hand():
    assert pearson_delta([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert pearson_delta([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert pearson_delta([1, 2, 3], [0, 0, 0]) == 0
    assert np.isnan(pearson_delta([1, 1], [1, 2]))
    with pytest.raises(DataError, match=r"\(3,\) and \(2,\)"):
        pearson_delta([1, 2, 3], [1, 2])


def test_what_cannot_be_scored_is_named():
    with pytest.raises(DataError, match="2 truths and 1 answers"):
        METRICS["rouge_l"](["a", "b"], ["a"])
    with pytest.raises(DataError, match="truth 1 is empty"):
        METRICS["rouge_l"](["a", " "], ["a", "b"])
    alone = METRICS["rouge_l"](["a"], ["a"])
    assert (alone.value, alone.low) == (1, None)
    assert LanguageModelling.metric in METRICS


def test_a_longer_answer_gains_nothing():
    """All genes there are would hold every true one; only as many as the truth has are read."""
    assert METRICS["gene_overlap"]([[1, 2]], [[9, 2, 1, 3, 4]]).value == 50
    truth = [np.array([1, 2]), np.array([3, 4])]
    assert METRICS["gene_overlap"]([truth], [[np.arange(4, -1, -1), np.array([1, 9])]]).value == 75
