"""The table of captions: plain rows by hand, gains, leaks, and a model that repeats what it was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.errors import ConfigError, DataError
from c2s.metrics.captions import caption_results
from c2s.metrics.text import rouge_l, token_f1
from c2s.results import Result

TRUTH = ["B cells with MS4A1", "T cells with CD3D", "monocytes with LYZ and S100A8"]
TRAINING = ["NK cells with NKG7", "B cells with CD79A", "monocytes with LYZ"]
VECTORS = np.array([[0.0, 1.0], [4.0, 0.0], [0.0, 9.0]])
TRAINING_VECTORS = np.array([[5.0, 0.0], [0.0, 2.0], [0.0, 8.0]])
NEAREST = [TRAINING[1], TRAINING[0], TRAINING[2]]


def embedder(texts):
    return [np.array([[len(word), ord(word[0]) - 90.0, 1.0] for word in text.split()], np.float32) for text in texts]


def table(models, **changes) -> dict[tuple[str, str | None], Result]:
    given = {
        "vectors": VECTORS, "training_captions": TRAINING, "training_vectors": TRAINING_VECTORS, "seed": 0,
    }  # fmt: skip
    rows = caption_results(TRUTH, models, **(given | changes))
    found = {(row.metric, row.reference): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_rows_are_the_means_of_their_answers():
    answers = ["B cells with MS4A1", None, "monocytes"]
    found = table({"ours": answers})
    for name, score in (("token F1", token_f1), ("ROUGE-L F", rouge_l)):
        ours = [score(one, other) for one, other in zip(TRUTH, answers)]
        near = [score(one, other) for one, other in zip(TRUTH, NEAREST)]
        # a cluster's caption moves to either of the two others, and each with the same chance
        deals = [[1, 2, 0], [2, 0, 1]]
        dealt = np.array([[score(TRUTH[i], TRUTH[deal[i]]) for i in range(3)] for deal in deals])
        row = found[f"{name}, ours", None]
        assert row.value == pytest.approx(np.mean(ours))
        assert row.low <= row.value <= row.high
        assert (row.n, row.space, row.seed) == (3, "words", 0)
        assert found[f"{name}, nearest training caption", None].value == pytest.approx(np.mean(near))
        shuffled = found[f"{name}, shuffled captions", None].value
        assert dealt.mean(axis=1).min() - 1e-9 <= shuffled <= dealt.mean(axis=1).max() + 1e-9
        gain = found[f"gain of {name}, ours", "nearest training caption"]
        assert gain.value == pytest.approx(np.mean(ours) - np.mean(near))
        assert found[f"gain of {name}, ours", "shuffled captions"].value == pytest.approx(np.mean(ours) - shuffled)


def test_a_model_that_copies_the_nearest_caption_gains_nothing_and_leaks():
    found = table({"parrot": NEAREST, "truth": TRUTH})
    gain = found["gain of ROUGE-L F, parrot", "nearest training caption"]
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert found["verbatim, parrot", None].value == 1
    assert found["longest run, parrot", None].value == pytest.approx(np.mean([4, 4, 3]))
    assert found["ROUGE-L F, truth", None].value == 1
    assert found["verbatim, truth", None].value == found["verbatim, true captions", None].value == 0


def test_vectors_of_tokens_where_there_is_an_embedder():
    calls = []

    def counted(texts):
        calls.extend(texts)
        return embedder(texts)

    found = table({"truth": TRUTH, "silent": [None] * 3}, embedder=counted)
    assert len(calls) == len(set(calls))
    for measure in ("matching F1", "cosine"):
        assert found[f"{measure}, truth", None].value == pytest.approx(1)
        assert found[f"{measure}, silent", None].value == 0
        assert found[f"{measure}, truth", None].space == "token vectors of the embedder"
        assert 0 < found[f"{measure}, shuffled captions", None].value < 1


def test_the_seed_decides_the_dealing_and_nothing_else_is_drawn():
    state = np.random.get_state()[1].copy()
    assert table({"ours": NEAREST}, seed=3) == table({"ours": NEAREST}, seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_one_cluster_has_a_value_and_no_interval():
    rows = caption_results(
        TRUTH[:1], {}, vectors=VECTORS[:1], training_captions=TRAINING, training_vectors=TRAINING_VECTORS, seed=0
    )
    found = {row.metric: row for row in rows}
    assert found["ROUGE-L F, nearest training caption"].reason == "one cluster cannot be resampled"
    assert np.isnan(found["ROUGE-L F, shuffled captions"].value)


@pytest.mark.parametrize(
    ("models", "changes", "message"),
    [
        ({"ours": ["a"]}, {}, "ours has 1 answers for 3"),
        ({"shuffled captions": TRUTH}, {}, "always there"),
        ({}, {"n_shuffles": 0}, "n_shuffles=0"),
        ({}, {"vectors": VECTORS[:2]}, "3 true captions with 2 vectors"),
        ({}, {"vectors": VECTORS[:, :1]}, r"shape \(3, 1\)"),
        ({}, {"vectors": VECTORS * np.nan}, "not finite"),
    ],
)
def test_what_does_not_fit_is_named(models, changes, message):
    with pytest.raises((DataError, ConfigError), match=message):
        table(models, **changes)


def test_the_space_is_that_of_the_measure_whatever_the_row_is_called():
    found = table({"cosine matching": TRUTH}, embedder=embedder)
    assert found["token F1, cosine matching", None].space == "words"
    assert found["longest run, cosine matching", None].space == "words"
    assert found["cosine, cosine matching", None].space == "token vectors of the embedder"
    assert found["gain of matching F1, cosine matching", "shuffled captions"].space == "token vectors of the embedder"
