import numpy as np
import pytest

from c2s.cells.ontology import CellOntology
from c2s.errors import DataError
from c2s.metrics.ontology import ontology_scores

TREE = CellOntology.parse(
    "".join(
        f"[Term]\nid: X:{i}\nname: {name}\n" + (f"is_a: X:{parent}\n" if parent is not None else "") + "\n"
        for i, (name, parent) in enumerate(
            [("cell", None), ("lymphocyte", 0), ("t cell", 1), ("b cell", 1), ("monocyte", 0), ("dust", None)]
        )
    )
)


def test_scores_in_closed_form():
    truth = ["T cells", "B", "monocyte", "b cell", "gremlin", "t cell", "t cell"]
    answer = ["t cell", "lymphocytes", "T cell", "nonsense", "b cell", "dust", None]
    scores = ontology_scores(truth, answer, TREE)
    np.testing.assert_array_equal(scores.distances, [0, 1, 3, np.nan, np.nan, np.inf, np.nan])
    assert scores.mean_distance == pytest.approx(4 / 3)
    assert (scores.exact, scores.same_lineage) == (1 / 6, 2 / 6)
    assert (scores.n, scores.n_scored, scores.n_unjoined) == (6, 3, 1)
    assert (scores.n_unmatched_truth, scores.n_unmatched_predicted) == (1, 2)
    assert set(scores.unmatched) == {"gremlin", "nonsense", ""}
    assert scores.n == scores.n_scored + scores.n_unjoined + scores.n_unmatched_predicted


def test_nothing_to_score_is_nan():
    scores = ontology_scores(["gremlin"], ["cell"], TREE)
    assert np.isnan([scores.mean_distance, scores.exact, scores.same_lineage]).all()
    with pytest.raises(DataError, match="as many"):
        ontology_scores(["cell"], [], TREE)


def test_a_table_of_labels():
    assert ontology_scores(["CD4 Mem"], ["t cell"], TREE, table={"CD4 Mem": "X:2"}).exact == 1
