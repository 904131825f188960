"""Each task with the arguments that make examples of it, and the values its answers must parse to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from c2s.cells.genes import GeneVocabulary
from c2s.cells.library import Perturbation
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS, Question, Samples

SYMBOLS = ("CD4", "MS4A1", "CD8A", "NKG7", "HLA-A", "C1orf112", "MT-ND1", "T")
VOCABULARY = GeneVocabulary(SYMBOLS)
ROWS = [[3, 1, 2, 0, 4], [0], [5, 6], [7, 2, 4, 1], [1, 7], [6, 0, 3]]
LABELS = ("CD4 T cell", "B cell", "NK cell", "CD8-positive, alpha-beta T cell")
SAMPLES = Samples((np.array([0, 1, 2]), np.array([3, 5])), ("a", "b"))
SETS = {
    "KINASES": ("CD4", "T", "NONE", "CD4"),
    "EMPTY": ("OTHER",),
    "Interferon response": ("HLA-A", "NKG7", "MS4A1", "CD8A"),
}
QUESTIONS = (
    Question((0, 1), "Do both express CD4?", "Yes", ("Yes", "No")),
    Question((2,), "How many genes are shown?", "2."),
)


def sentences() -> CellSentences:
    obs = pd.DataFrame(
        {
            "label": [*LABELS, "B cell", "NK cell"], "tissue": ["blood"] * 3 + ["lymph node"] * 3, "organism": "Homo sapiens",
            "abstract": ["We looked. We found more."] * 3 + ["Second study"] * 3, "drug": ["DMSO", "IFN-β"] * 3, "dose": [None, "5 uM"] * 3,
        },
        index=list("abcdef"),
    )  # fmt: skip
    return CellSentences.from_lists(ROWS, VOCABULARY, obs=obs)


def cut(rows, n):
    return [ROWS[row][:n] for row in rows]


def cases(n: int):
    """Return task name → (arguments of examples, values of the answers, arguments of parse), for ``n_genes=n``."""
    whole = sentences()
    multi = [cut(rows, n) for rows in SAMPLES.rows]
    genes = {"vocabulary": VOCABULARY}
    labels = list(whole.obs["label"])
    texts = ["We looked. We found more", "Second study"]
    pairs = {"groups": [[0, 1], [2, 3, 4]], "together": [True, False], "knowledge": [["CD4 binds HLA-A"], []]}
    return {
        "language_modelling": ((whole,), {}, cut(range(6), n), genes),
        "cell_type_annotation": ((whole,), {"labels_key": "label"}, labels, {}),
        "cell_generation": ((whole,), {"conditions": {"cell_type": "label", "drug": "drug"}}, cut(range(6), n), genes),
        "multi_cell_language_modelling": ((whole,), {"samples": SAMPLES}, multi, genes),
        "tissue_inference": ((whole,), {"samples": SAMPLES, "tissue_key": "tissue"}, ["blood", "lymph node"], {}),
        "sample_generation": ((whole,), {"samples": SAMPLES, "by_key": "tissue"}, multi, genes),
        "sample_cell_types": (
            (whole,),
            {"samples": SAMPLES, "labels_key": "label"},
            [("B cell", "CD4 T cell", "NK cell"), ("CD8-positive, alpha-beta T cell", "NK cell")],
            {},
        ),
        "sample_abstract": ((whole,), {"samples": SAMPLES, "abstract_key": "abstract"}, texts, {}),
        "cluster_captioning": ((whole,), {"samples": SAMPLES, "caption_key": "abstract"}, texts, {}),
        "dataset_summary": ((whole,), {"samples": SAMPLES, "summary_key": "abstract"}, texts, {}),
        "question_answering": ((whole,), {"questions": QUESTIONS}, ["Yes", "2"], {}),
        "gene_set_naming": ((SETS,), genes, ["KINASES", "Interferon response"], {}),
        "gene_set_enumeration": ((SETS,), genes, [[0, 7][:n], [4, 3, 1, 2][:n]], genes),
        "niche_label": (
            (whole,),
            {"cells": [0, 4], "neighbours": [[1, 2], []], "niche_key": "label", "knowledge": [["a binds b", "c binds d"], []]},
            ["CD4 T cell", "B cell"],
            {},
        ),
        "neighbour_generation": ((whole,), {"shown": [[0, 1], [2]], "neighbours": [3, 5]}, cut([3, 5], n), genes),
        "same_neighbourhood": ((whole,), pairs, [True, False], {}),
        "same_niche": ((whole,), pairs, [True, False], {}),
        "perturbation_inverse": (
            (whole,),
            {"controls": [0, 2], "treated": [1, 3], "perturbation_key": "drug", "columns": {"dose": "dose"}},
            ["IFN-β", "IFN-β"],
            {},
        ),
        "perturbation_response": (
            (whole,),
            {
                "controls": np.array([0]), "treated": np.array([1]), "perturbations": [Perturbation("IFN-β")], "contexts": [{}],
                "up": [np.array([1], np.int32)], "down": [np.array([2], np.int32)],
            },
            [([1], [2])],
            {},
        ),
    }  # fmt: skip


def plain(value):
    """Return ``value`` with arrays as lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list) or (isinstance(value, tuple) and value and isinstance(value[0], np.ndarray)):
        return type(value)(plain(each) for each in value)
    return value


def make(name: str, n: int, wording):
    """Return the task, in words."""
    if name == "perturbation_response":
        return TASKS[name]()
    return TASKS[name](n_genes=n, wording=wording)
