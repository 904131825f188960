"""Questions about cells with answers counted from their labels; yes and no are balanced, so that the question alone tells nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from c2s.cells.ontology import CellOntology
from c2s.cells.reading import coded_column
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.markers import DEPTH
from c2s.tasks.samples import Samples
from c2s.training.question_kinds import (
    WORDINGS,
    BuiltQuestion,
    CountedSamples,
    contains_type,
    kind_of,
    kinds_of_types,
    majority_kind_of,
    majority_type,
    marker_gene,
    more_of_type,
    type_share,
)

logger = logging.getLogger(__name__)

NEEDS_ONTOLOGY = ("kind_of", "majority_kind_of")


def questions(
    sentences: CellSentences,
    samples: Samples,
    *,
    labels_key: str,
    kinds: Sequence[str] | None = None,
    per_kind: int = 100,
    ontology: CellOntology | None = None,
    table: Mapping[str, str] | None = None,
    n_choices: int = 4,
    depth: int = DEPTH,
    seed: int = 0,
) -> list[BuiltQuestion]:
    """Return at most ``per_kind`` questions of each kind about the samples.

    ================= ================================================================== ========================================
    kind              asks                                                               choices
    ================= ================================================================== ========================================
    majority_type     the most frequent type of a sample, where one is                   it and ``n_choices - 1`` other types
    type_share        whether more than 10, 25, 50 or 75 % are of a type                 yes, no
    contains_type     whether a type is there                                            yes, no
    more_of_type      which of two samples has more of a type                            the first, the second
    marker_gene       a marker of the most frequent type, by the rule of                 it and markers of other types that rank
                      :func:`~c2s.sentences.markers.marker_genes` on all cells           high in no larger share here than elsewhere
    kind_of           whether a type of the sample is a kind of another, by the ontology yes, no
    majority_kind_of  whether the most frequent type is                                  yes, no
    ================= ================================================================== ========================================

    Yes and no come in pairs of the same question about other cells, so that an answer that looks at the question alone is right half of
    the time; those of ``kind_of`` ask about another type, and whoever knows the types needs no cells. Kinds that the samples give fewer
    questions of are logged; the frequent types take turns with rare ones as long as these have samples.

    Parameters
    ----------
    sentences : CellSentences
    samples : Samples
        :func:`~c2s.tasks.samples.draw_samples`.
    labels_key : str
        Column of the cell types.
    kinds : sequence of str, optional
        None asks all kinds; those of kinds of types only where there is an ``ontology``.
    ontology, table
        As for :meth:`~c2s.cells.ontology.CellOntology.match_all`; labels without a term are in no question about kinds.
    depth : int
        Genes of a sentence that count for markers.

    Raises
    ------
    ConfigError
        An unknown kind, a kind that needs an ontology without one, or ``n_choices`` below 2.
    DataError
        The column is missing or has gaps.
    """
    asked = (
        [kind for kind in WORDINGS if ontology is not None or kind not in NEEDS_ONTOLOGY]
        if kinds is None
        else list(kinds)
    )
    _check(asked, ontology, per_kind, n_choices)
    codes, types = coded_column(sentences.obs, labels_key, "labels_key")
    counts = np.stack([np.bincount(codes[rows], minlength=len(types)) for rows in samples.rows])
    kinds_known = [] if ontology is None else kinds_of_types(types, ontology, table)
    built: list[BuiltQuestion] = []
    for kind in asked:
        rng = np.random.default_rng([seed, list(WORDINGS).index(kind)])
        counted = CountedSamples(samples, types, counts, rng, n_choices, per_kind)
        if kind in NEEDS_ONTOLOGY:
            found = (kind_of if kind == "kind_of" else majority_kind_of)(counted, kinds_known)
        elif kind == "marker_gene":
            found = marker_gene(counted, sentences, np.array(types, dtype=object)[codes], depth)
        else:
            found = {
                "majority_type": majority_type, "type_share": type_share, "contains_type": contains_type, "more_of_type": more_of_type,
            }[kind](counted)  # fmt: skip
        new = [question for question, _ in zip(found, range(per_kind))]
        if len(new) < per_kind:
            logger.warning(
                "%d questions of the kind %s can be asked of these samples; %d were wanted", len(new), kind, per_kind
            )
        built += new
    return built


def _check(asked: Sequence[str], ontology: CellOntology | None, per_kind: int, n_choices: int) -> None:
    if unknown := sorted(set(asked) - set(WORDINGS)):
        msg = f"no questions of the kind {', '.join(unknown)}; there are {', '.join(WORDINGS)}"
        raise ConfigError(msg)
    if ontology is None and (needed := [kind for kind in asked if kind in NEEDS_ONTOLOGY]):
        msg = f"{' and '.join(needed)} ask for kinds of cell types; pass ontology="
        raise ConfigError(msg)
    if per_kind < 2 or n_choices < 2:
        msg = f"per_kind={per_kind}, n_choices={n_choices}; expected at least 2 of each"
        raise ConfigError(msg)
