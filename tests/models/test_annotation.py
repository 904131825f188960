"""Labels by likelihood: probabilities are the full model's, priors are what they say, memory stays bounded."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.errors import ConfigError
from c2s.models import annotation, prefix
from c2s.models.prefix import PrefixDecoder
from tests.memory import LargestTensor
from tests.models.untrained import LABELS, SHARES, VOCABULARIES, cells_of, full_log_probabilities


def brute_force(model, sentences, labels):
    """Return log p(label, end | cell) by a full forward pass per cell and label, and the labels' token counts."""
    task = model.task("cell_type_annotation")
    out, lengths = np.zeros((len(sentences), len(labels))), np.zeros(len(labels))
    for j, label in enumerate(labels):
        answer = model.tokens.render(task.answer(label))
        lengths[j] = len(answer)
        for i in range(len(sentences)):
            prompt = model.tokens.render(task.prompt(sentences, i))
            log_p = full_log_probabilities(model.model, prompt + answer)
            out[i, j] = sum(float(log_p[len(prompt) - 1 + t, token]) for t, token in enumerate(answer))
    return out, lengths


def softmax(scores):
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def probabilities(table, labels=LABELS):
    return table[[f"p({label})" for label in labels]].to_numpy()


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_probabilities_are_those_of_the_full_model(models, vocabulary):
    model = models[vocabulary, "delta"]
    cells = cells_of(model, 10, seed=3, longest=10)
    assert len(set(np.minimum(cells.lengths, 8))) > 3  # prompts of different lengths in one batch
    log_p, lengths = brute_force(model, cells, LABELS)
    assert len(set(lengths)) > 1
    table = model.annotate(cells, batch_size=3)
    np.testing.assert_allclose(probabilities(table), softmax(log_p), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(probabilities(table).sum(axis=1), 1.0, rtol=1e-12)
    assert table.index.tolist() == cells.obs.index.tolist()
    best = probabilities(table).argmax(axis=1)
    assert table["label"].tolist() == [LABELS[j] for j in best]
    ordered = np.sort(probabilities(table), axis=1)
    np.testing.assert_allclose(table["probability"], ordered[:, -1])
    np.testing.assert_allclose(table["margin"], ordered[:, -1] - ordered[:, -2])
    by_length = model.annotate(cells, length_correction=True)
    np.testing.assert_allclose(probabilities(by_length), softmax(log_p / lengths), rtol=2e-4, atol=1e-6)


def test_priors(lm):
    cells = cells_of(lm, 5)
    log_p, lengths = brute_force(lm, cells, LABELS)
    uniform = lm.annotate(cells, prior="uniform")
    np.testing.assert_allclose(probabilities(uniform), softmax(log_p - np.log(SHARES)), rtol=2e-4, atol=1e-6)
    wanted = dict(zip(LABELS, (0.4, 0.3, 0.2, 0.1), strict=True))
    table = lm.annotate(cells, prior=wanted)
    expected = softmax(log_p - np.log(SHARES) + np.log([0.4, 0.3, 0.2, 0.1]))
    np.testing.assert_allclose(probabilities(table), expected, rtol=2e-4, atol=1e-6)
    own = lm.annotate(cells, prior=dict(zip(LABELS, SHARES, strict=True)))
    np.testing.assert_allclose(probabilities(own), probabilities(lm.annotate(cells)), rtol=1e-9)
    both = lm.annotate(cells, prior="uniform", length_correction=True)
    np.testing.assert_allclose(probabilities(both), softmax(log_p / lengths - np.log(SHARES)), rtol=2e-4, atol=1e-6)


def test_annotation_does_not_depend_on_batch_mates(lm):
    cells = cells_of(lm, 9)
    whole = probabilities(lm.annotate(cells))
    for rows in ([4], [8, 0, 3], list(range(9))[::-1]):
        np.testing.assert_allclose(probabilities(lm.annotate(cells[rows])), whole[rows], rtol=1e-4, atol=1e-7)
    for batch_size in (1, 2, 5):
        np.testing.assert_allclose(
            probabilities(lm.annotate(cells, batch_size=batch_size)), whole, rtol=1e-4, atol=1e-7
        )


def test_many_labels_make_smaller_batches(lm, monkeypatch):
    """Four labels a cell: 9 rows are two cells, 3 rows are still one."""
    cells = cells_of(lm, 7)
    whole = probabilities(lm.annotate(cells))
    sizes = []
    prefill = PrefixDecoder.prefill
    monkeypatch.setattr(
        PrefixDecoder, "prefill", lambda self, rows, **more: (sizes.append(len(rows)), prefill(self, rows, **more))[1]
    )
    for rows, expected in ((2048, [7]), (9, [2, 2, 2, 1]), (3, [1] * 7)):
        monkeypatch.setattr(prefix, "ROWS_PER_BATCH", rows)
        sizes.clear()
        np.testing.assert_allclose(probabilities(lm.annotate(cells)), whole, rtol=1e-4, atol=1e-7)
        assert sizes == expected


def test_logits_of_all_tokens_are_made_for_a_few_places_at_once(lm, monkeypatch):
    """At every label token of every cell they would be the largest thing by far."""
    cells = cells_of(lm, 30)
    whole = probabilities(lm.annotate(cells))
    n_tokens = len(lm.tokens)
    monkeypatch.setattr(annotation, "CHUNK", 3 * n_tokens)
    with LargestTensor() as largest:
        found = probabilities(lm.annotate(cells))
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-7)
    asked = len(cells) * sum(len(lm.tokens.render([label])) + 1 for label in LABELS)
    assert largest.nbytes < asked * n_tokens * 4 / 2


def test_a_closed_set_of_other_labels(lm):
    cells = cells_of(lm, 3)
    labels = ("CD4 T cell", "astrocyte ✨", "<end>")
    log_p, _ = brute_force(lm, cells, labels)
    table = lm.annotate(cells, labels=labels)
    np.testing.assert_allclose(probabilities(table, labels), softmax(log_p), rtol=2e-4, atol=1e-6)
    with pytest.raises(
        ConfigError, match="'uniform' needs each label's share in training; .'astrocyte ✨', '<end>'. are not"
    ):
        lm.annotate(cells, labels=labels, prior="uniform")


def test_no_cell_gives_an_empty_table(lm):
    table = lm.annotate(cells_of(lm, 3)[[]])
    assert len(table) == 0
    assert "p(B cell)" in table.columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["B cell"]}, "at least two different names, found"),
        ({"labels": ["B cell", "B cell"]}, "at least two different names"),
        ({"labels": []}, "at least two different names"),
        (
            {"prior": "flat"},
            "prior must be 'training', 'uniform' or a mapping of labels to probabilities, found 'flat'",
        ),
        ({"prior": {"B cell": 1.0}}, "prior needs a probability above 0 for each of"),
        ({"prior": {**dict.fromkeys(LABELS, 0.25), "B cell": 0.0}}, "prior needs a probability above 0"),
    ],
)
def test_labels_and_priors_that_mean_nothing_are_refused(lm, arguments, message):
    with pytest.raises(ConfigError, match=message):
        lm.annotate(cells_of(lm, 2), **arguments)
