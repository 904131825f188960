"""How near predicted cell types come to the true ones in the Cell Ontology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from c2s.cells.ontology import CellOntology
from c2s.errors import DataError


@dataclass(frozen=True)
class OntologyScores:
    """Scores of ``n`` predictions whose truth has a term; predictions without one are counted, and in no mean distance.

    Attributes
    ----------
    mean_distance : float
        Mean edges between truth and prediction over the ``n_scored`` pairs that are joined; nan where there is none.
    exact, same_lineage : float
        Share, of the ``n``, of predictions that are the truth's own term; that are it, one of its ancestors or one of its descendants.
        An unmatched prediction is neither.
    n, n_scored, n_unmatched_truth, n_unmatched_predicted, n_unjoined : int
        ``n_unmatched_truth`` pairs are in no score. ``n`` = ``n_scored`` + ``n_unmatched_predicted`` + ``n_unjoined``.
    distances : ndarray, float64, shape (number of pairs,)
        nan where a label has no term, inf where nothing joins the two.
    unmatched : mapping of str to str
        Labels without a term, and why.
    """

    mean_distance: float
    exact: float
    same_lineage: float
    n: int
    n_scored: int
    n_unmatched_truth: int
    n_unmatched_predicted: int
    n_unjoined: int
    distances: np.ndarray
    unmatched: Mapping[str, str]


def ontology_scores(
    truth: Sequence[str],
    predicted: Sequence[str | None],
    ontology: CellOntology,
    *,
    table: Mapping[str, str] | None = None,
) -> OntologyScores:
    """Return how near ``predicted`` cell types come to ``truth``.

    Parameters
    ----------
    truth, predicted : sequence of str
        Labels or ids. A prediction that is None or empty (an answer that could not be parsed) has no term.
    table : mapping of str to str
        Ids of labels that the ontology does not know by name (:meth:`CellOntology.match_all`).

    Raises
    ------
    DataError
        The two differ in length.
    """
    if len(truth) != len(predicted):
        msg = f"{len(truth):,} true labels and {len(predicted):,} predicted ones; they must be as many"
        raise DataError(msg)
    given = ["" if label is None else str(label) for label in predicted]
    matches = ontology.match_all([*map(str, truth), *given], table=table)
    pairs = [(matches.ids.get(str(one)), matches.ids.get(other)) for one, other in zip(truth, given)]
    distances = np.array(
        [np.nan if one is None or other is None else ontology.distance(one, other) for one, other in pairs]
    )
    known = [(one, other) for one, other in pairs if one is not None]
    both = [(one, other) for one, other in known if other is not None]
    n, joined = len(known), np.isfinite(distances)
    related = sum(ontology.relation(one, other) != "none" for one, other in both)
    return OntologyScores(
        mean_distance=float(distances[joined].mean()) if joined.any() else float("nan"),
        exact=sum(one == other for one, other in both) / n if n else float("nan"),
        same_lineage=related / n if n else float("nan"),
        n=n,
        n_scored=int(joined.sum()),
        n_unmatched_truth=len(pairs) - n,
        n_unmatched_predicted=n - len(both),
        n_unjoined=int(np.isinf(distances).sum()),
        distances=distances,
        unmatched=dict(matches.unmatched),
    )
