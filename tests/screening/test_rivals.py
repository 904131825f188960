"""The baselines beside the model, on planted responses with closed-form answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.cells.library import Perturbation
from c2s.screening.effects import STATISTICS, ScreenEffects
from c2s.screening.programmes import load_programme
from c2s.screening.rivals import Rivals

CONTEXTS = ("low", "none")
GENES = np.array([0, 2])  # the programme: genes 0 and 2 of three
# change of every gene per target and context; gene 1 is outside the programme
PLANTED = {("A", "low"): 1.0, ("A", "none"): 0.0, ("B", "low"): 0.4, ("B", "none"): 0.4}


def drug(name: str, target: str) -> Perturbation:
    return Perturbation(name, targets=(target,))


TRAINED = [Perturbation("DMSO", role="vehicle"), *(drug(f"{t}{i}", t) for t in "AB" for i in range(5))]


def responses(*, held_out=(), extra=None, contexts=CONTEXTS) -> pd.DataFrame:
    rows = [
        {
            "perturbation": p.name, "ifn": context, "n_cells": 10, "held_out": p.name in held_out,
            "change": np.array([PLANTED[p.targets[0], context], 99.0, PLANTED[p.targets[0], context]], np.float32),
        }
        for p in TRAINED[1:] for context in contexts
    ]  # fmt: skip
    return pd.DataFrame(rows + list(extra or []))


def fitted(table, **changes):
    return Rivals.of(table, TRAINED, **{"context_key": "ifn", "contexts": CONTEXTS, "gene_ids": GENES, **changes})


def test_splits_of_known_targets():
    splits = fitted(responses()).splits([drug("new", "A"), drug("new2", "B"), drug("new3", "C")])
    assert set(splits) == {"ridge", "knn", "mean"}
    np.testing.assert_allclose(splits["knn"], [1.0, 0.0, 0.5], atol=1e-6)  # an unknown target gets the mean
    np.testing.assert_allclose(splits["ridge"], [1.0, 0.0, 0.5], atol=0.02)
    np.testing.assert_allclose(splits["mean"], [0.5, 0.5, 0.5], atol=1e-6)


def test_the_first_context_minus_the_second():
    forward = fitted(responses()).splits([drug("new", "A")])["knn"]
    backward = fitted(responses(), contexts=CONTEXTS[::-1]).splits([drug("new", "A")])["knn"]
    np.testing.assert_allclose(forward, -backward)


def test_other_context_columns_are_averaged_by_cells():
    table = responses()
    table["line"] = "x"
    more = table[(table["perturbation"] == "A0") & (table["ifn"] == "low")].iloc[0].to_dict()
    more |= {"line": "y", "n_cells": 30, "change": np.array([5.0, 0.0, 5.0], np.float32)}
    rivals = fitted(pd.concat([table, pd.DataFrame([more])], ignore_index=True))
    a0 = (10 * 1.0 + 30 * 5.0) / 40
    np.testing.assert_allclose(rivals.splits([drug("new", "A")])["knn"], [(a0 + 4) / 5], atol=1e-5)


def test_other_contexts_and_unknown_names_are_left_out():
    strange = [
        {"perturbation": "A0", "ifn": "high", "n_cells": 10, "held_out": False, "change": np.full(3, 50, np.float32)},
        {"perturbation": "who", "ifn": "low", "n_cells": 10, "held_out": False, "change": np.full(3, 50, np.float32)},
    ]
    rivals = fitted(responses(extra=strange))
    np.testing.assert_allclose(rivals.splits([drug("new", "C")])["mean"], [0.5], atol=1e-6)


def test_held_out_perturbations_are_not_learned_from():
    table = responses(held_out=("A0",))
    spoiled = table.copy()
    spoiled["change"] = [np.full(3, 77, np.float32) if held else c for c, held in zip(table["change"], table["held_out"], strict=True)]  # fmt: skip
    for one, other in zip(fitted(table).splits([drug("n", "A")]).values(), fitted(spoiled).splits([drug("n", "A")]).values(), strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other)


def test_where_training_says_nothing_of_both_contexts():
    assert fitted(None) is None
    assert fitted(responses(), context_key="cell_line") is None
    assert fitted(responses(contexts=("low",))) is None
    assert fitted(responses(held_out=[p.name for p in TRAINED])) is None


def test_a_context_seen_only_in_held_out_perturbations_gives_no_rivals():
    table = responses(held_out=("A0",))
    table = table[(table["ifn"] == "low") | table["held_out"]]
    assert fitted(table) is None


def effects_of(predicted: dict[tuple[str, str], float]) -> ScreenEffects:
    names = list(dict.fromkeys(name for name, _ in predicted))
    cells = pd.DataFrame({"cell": ["a", "b", "c", "d"], "context": ["low", "low", "none", "none"], "unit": "u"})
    jitter = np.array([0.1, -0.1, 0.1, -0.1])  # the mean over cells is what counts
    values = np.stack([
        np.array([predicted[name, context] for context in cells["context"]]) + jitter for name in ("DMSO", *names) if name != "DMSO"
    ])  # fmt: skip
    values = np.vstack([np.zeros(4), values]).astype(np.float32)
    rows = pd.DataFrame({"name": ["DMSO", *names], "role": "drug", "set": ["vehicle"] + ["reference"] * len(names)})
    zeros = np.zeros((len(rows), 2, 2), np.float32)
    return ScreenEffects(
        rows, cells, {name: values if name == "log_expression" else values * 0 for name in STATISTICS}, {}, zeros,
        zeros[0], zeros[0], load_programme(["X", "Y"]), ["X", "Y"], CONTEXTS, 50,
    )  # fmt: skip


def test_held_out_scores_by_hand():
    rivals = fitted(responses(held_out=("A0", "B0")))
    predicted = {("A0", "low"): 1.3, ("A0", "none"): 0.4, ("B0", "low"): 0.4, ("B0", "none"): 0.4}
    scores = rivals.held_out_scores(effects_of(predicted))
    assert scores["model"]["rmse"] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 4), rel=1e-4)
    assert scores["knn"]["rmse"] == pytest.approx(0, abs=1e-6)
    assert scores["knn"]["spearman"] == pytest.approx(1)
    # mean responses of training: low 0.7, none 0.2
    assert scores["mean"]["rmse"] == pytest.approx(np.sqrt((0.3**2 + 0.2**2 + 0.3**2 + 0.2**2) / 4), rel=1e-4)
    assert {score["n"] for score in scores.values()} == {4}


def test_too_few_held_out_pairs_cannot_be_scored():
    rivals = fitted(responses(held_out=("A0",)))
    assert rivals.held_out_scores(effects_of({("A0", "low"): 1.0, ("A0", "none"): 0.0})) is None
    two = fitted(responses(held_out=("A0", "B0")))
    assert two.held_out_scores(effects_of({("A0", "low"): 1.0, ("A0", "none"): 0.0})) is None  # B0 was not run
