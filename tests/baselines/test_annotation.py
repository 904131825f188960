"""Annotation baselines without a network: what they learn, what they refuse, genes that differ between data sets."""

from __future__ import annotations

import logging
import sys
import types

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from c2s.baselines.annotation import ANNOTATORS
from c2s.baselines.linear import TopGenesLogistic, VariableGenesLogistic, variable_genes
from c2s.errors import DataError, MissingDependencyError, ModelError
from c2s.sentences.background import Background
from c2s.sentences.encode import encode
from tests.baselines.planted import planted

LINEAR = {
    "majority": {},
    "logistic_variable_genes": {},
    "logistic_top_genes": {"n_genes": 20},
    "logistic_top_genes_rank": {"n_genes": 20},
    "knn_pca": {"n_components": 10},
}


@pytest.fixture(scope="module")
def cells():
    return planted(seed=0), planted(20, seed=1)


@pytest.mark.parametrize("row", LINEAR)
def test_learns_planted_classes_and_gives_probabilities(cells, row):
    (train, labels), (test, truth) = cells
    found = ANNOTATORS[row](**LINEAR[row]).fit(train, labels, seed=0).predict_proba(test)
    assert list(found.columns) == sorted(set(labels)) and found.index.equals(test.obs_names)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    accuracy = (found.idxmax(axis=1).to_numpy() == truth).mean()
    assert accuracy == 0.25 if row == "majority" else accuracy > 0.9


@pytest.mark.parametrize("row", LINEAR)
def test_a_cell_is_named_alike_alone_and_with_genes_in_another_order(cells, row):
    (train, labels), (test, _) = cells
    fitted = ANNOTATORS[row](**LINEAR[row]).fit(train, labels, seed=0)
    whole = fitted.predict_proba(test)
    pd.testing.assert_frame_equal(fitted.predict_proba(test[7:8]), whole.iloc[7:8], rtol=1e-5)
    shuffled = test[:, np.random.default_rng(0).permutation(test.n_vars)].copy()
    pd.testing.assert_frame_equal(fitted.predict_proba(shuffled), whole, rtol=1e-5)


def test_missing_genes_are_zeros_and_are_counted(cells, caplog):
    (train, labels), (test, _) = cells
    fitted = VariableGenesLogistic().fit(train, labels, seed=0)
    zeroed = test.copy()
    zeroed.X = sp.csr_matrix(zeroed.X.toarray() * (np.arange(test.n_vars) >= 3))
    with caplog.at_level(logging.INFO):
        found = fitted.predict_proba(test[:, 3:].copy())
    assert "3 of 80 training genes are missing" in caplog.text
    pd.testing.assert_frame_equal(found, fitted.predict_proba(zeroed))


def test_refusals(cells):
    (train, labels), (test, _) = cells
    fitted = ANNOTATORS["majority"]().fit(train, labels, seed=0)
    other = test.copy()
    other.var_names = [f"ENSG{i:011d}" for i in range(test.n_vars)]
    with pytest.raises(DataError, match="share no gene"):
        fitted.predict_proba(other)
    with pytest.raises(ModelError, match="call fit first"):
        ANNOTATORS["majority"]().predict_proba(test)
    with pytest.raises(DataError, match="one label a cell"):
        ANNOTATORS["majority"]().fit(train, labels[1:], seed=0)
    with pytest.raises(DataError, match="missing"):
        ANNOTATORS["majority"]().fit(train, [None, *labels[1:]], seed=0)
    with pytest.raises(DataError, match="at least 2 classes"):
        VariableGenesLogistic().fit(train, ["B"] * train.n_obs, seed=0)
    logged = train.copy()
    logged.X = train.X.log1p()
    with pytest.raises(DataError, match="raw counts"):
        VariableGenesLogistic().fit(logged, labels, seed=0)


@pytest.mark.parametrize("weights", ["binary", "rank"])
def test_bag_of_top_genes_is_scikit_learn_on_the_encoded_sentences(cells, weights):
    (train, labels), (test, _) = cells
    fitted = TopGenesLogistic(n_genes=15, weights=weights, penalties=(0.1,)).fit(train, labels, seed=0)
    background = Background.fit(train)

    def bag(adata):
        sentences = encode(adata, n_genes=15, background=background, vocabulary=background.vocabulary)
        table = np.zeros((adata.n_obs, adata.n_vars))
        for i in range(adata.n_obs):
            for rank, gene in enumerate(sentences.row(i)):
                table[i, gene] = 1 if weights == "binary" else 1 - rank / 15
        return table

    reference = LogisticRegression(C=0.1, max_iter=300, tol=1e-3).fit(bag(train), labels)
    np.testing.assert_allclose(fitted.predict_proba(test), reference.predict_proba(bag(test)), atol=2e-3)


def test_variable_genes_finds_the_planted_ones(cells):
    (train, _), _ = cells
    values = train.X.copy()
    values.data = np.log1p(values.data)
    assert len(variable_genes(values, 30)) == 30
    assert len(set(variable_genes(values, 30)) & set(range(24))) >= 15
    assert len(variable_genes(values, 500)) == train.n_vars


def test_a_class_of_one_cell_does_not_stop_the_search(cells):
    (train, labels), (test, _) = cells
    rare = labels.copy()
    rare[0] = "rare"
    assert "rare" in VariableGenesLogistic().fit(train, rare, seed=0).predict_proba(test).columns


def test_celltypist_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "celltypist", None)
    with pytest.raises(MissingDependencyError, match=r"c2s\[celltypist\]"):
        ANNOTATORS["celltypist"]()


def test_celltypist_is_asked_as_its_interface_has_it(cells, monkeypatch):
    (train, labels), (test, truth) = cells
    asked = {}

    class Model:
        pass

    def fit(adata, *, labels, **settings):
        asked.update(settings)
        np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)
        model = Model()
        model.knn, model.names = KNeighborsClassifier(5).fit(adata.X, labels), np.unique(labels)
        return model

    def annotate(adata, *, model, majority_voting):
        scores = pd.DataFrame(model.knn.predict_proba(adata.X), columns=model.names)
        ones = pd.DataFrame(np.ones(scores.shape), columns=model.names)  # rounded off: the score decides
        return types.SimpleNamespace(probability_matrix=ones, decision_matrix=scores)

    stub = types.ModuleType("celltypist")
    stub.train, stub.annotate = fit, annotate
    monkeypatch.setitem(sys.modules, "celltypist", stub)
    found = ANNOTATORS["celltypist"]().fit(train, labels, seed=3).predict_proba(test)
    assert asked["use_SGD"] and asked["random_state"] == 3
    assert (found.idxmax(axis=1).to_numpy() == truth).mean() > 0.9
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_celltypist_itself_learns(cells):
    pytest.importorskip("celltypist", reason="optional: pip install 'c2s[celltypist]'")
    (train, labels), (test, truth) = cells
    found = ANNOTATORS["celltypist"]().fit(train, labels, seed=0).predict_proba(test)
    assert (found.idxmax(axis=1).to_numpy() == truth).mean() > 0.9
