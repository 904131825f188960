"""Which genes a perturbation moves, in truth and in prediction, and how the two lists agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import spearmanr

from c2s.metrics.wilcoxon import rank_sum
from c2s.stats import benjamini_hochberg

Array = NDArray[np.float64]
FDR = 0.05


@dataclass(frozen=True)
class GeneTests:
    """Tests of every gene, perturbed cells against controls.

    Attributes
    ----------
    z : ndarray, shape (n_genes,)
        Of Wilcoxon's rank-sum test, positive where perturbed cells are higher.
    q : ndarray, shape (n_genes,)
        False discovery rate over the genes (Benjamini and Hochberg).
    change : ndarray, shape (n_genes,)
        Mean of the perturbed less mean of the controls, log1p CP10k.
    """

    z: Array
    q: Array
    change: Array

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Genes at a false discovery rate below 0.05."""
        return self.q < FDR


def gene_tests(cells: sp.spmatrix, controls: sp.spmatrix) -> GeneTests:
    """Return the tests of cells against controls, each of shape (n, n_genes), log1p CP10k.

    Raises
    ------
    DataError
        As :func:`~c2s.metrics.wilcoxon.rank_sum`.
    """
    z, p = rank_sum(sp.csc_matrix(cells), sp.csc_matrix(controls))
    change = np.asarray(cells.mean(axis=0)).ravel() - np.asarray(controls.mean(axis=0)).ravel()
    return GeneTests(z, benjamini_hochberg(p), change)


def de_overlap(truth: GeneTests, predicted: GeneTests) -> float:
    """Return the share of the n genes that truly respond among the n predicted responders of largest change.

    Fewer predicted responders than n are all taken; so a prediction without any scores 0. nan where nothing truly responds.
    (The Virtual Cell Challenge's differential expression score, ``overlap_at_N`` of cell-eval, with our changes.)
    """
    n = int(truth.significant.sum())
    if not n:
        return float("nan")
    found = np.flatnonzero(predicted.significant)
    chosen = found[np.argsort(-np.abs(predicted.change[found]), kind="stable")[:n]]
    return float(truth.significant[chosen].sum() / n)


def de_precision(truth: GeneTests, predicted: GeneTests) -> float:
    """Return the share of the predicted responders that truly respond; nan where none is predicted."""
    found = predicted.significant
    return float(truth.significant[found].mean()) if found.any() else float("nan")


def de_recall(truth: GeneTests, predicted: GeneTests) -> float:
    """Return the share of the genes that truly respond that are predicted responders; nan where nothing truly responds."""
    true = truth.significant
    return float(predicted.significant[true].mean()) if true.any() else float("nan")


def de_direction(truth: GeneTests, predicted: GeneTests) -> float:
    """Return the share of the genes that truly respond whose predicted change has the true sign; a change of 0 has none, and is wrong."""
    true = truth.significant
    return (
        float((np.sign(predicted.change[true]) == np.sign(truth.change[true])).mean()) if true.any() else float("nan")
    )


def de_spearman(truth: GeneTests, predicted: GeneTests) -> float:
    """Return Spearman's correlation of true and predicted change over the genes that truly respond; 0 where all predicted ones are alike."""
    true = truth.significant
    if true.sum() < 2 or not np.ptp(truth.change[true]):
        return float("nan")
    if not np.ptp(predicted.change[true]):
        return 0.0
    return float(spearmanr(truth.change[true], predicted.change[true]).statistic)


def de_auc(truth: GeneTests, predicted: GeneTests) -> tuple[float, float]:
    """Return the areas under the ROC and the precision-recall curve of finding true responders by the predicted |z|.

    nan where no gene truly responds, or all do.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    true = truth.significant
    if true.all() or not true.any():
        return float("nan"), float("nan")
    score = np.abs(predicted.z)
    return float(roc_auc_score(true, score)), float(average_precision_score(true, score))
