"""The kinds of questions that can be answered from labels: how each is worded, drawn and balanced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from c2s.cells.ontology import CellOntology
from c2s.sentences.corpus import CellSentences
from c2s.sentences.markers import high_shares, marker_genes
from c2s.tasks.question_answering import Question
from c2s.tasks.samples import Samples

VERSION = "1"  # changes whenever a wording does
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "majority_type": (
        "Which cell type is the most frequent among these cells?",
        "Which cell type has the most cells here?",
    ),
    "type_share": (
        "Are more than {percent} % of these cells of type {type}?",
        "Does the type {type} make up more than {percent} % of these cells?",
    ),
    "contains_type": ("Is there a cell of type {type} among these?", "Do these cells include one of type {type}?"),
    "more_of_type": (
        "The first {n} cells are one sample and the last {n} another. Which of the two has more cells of type {type}?",
        "Two samples of {n} cells each, one after the other: which one holds more cells of type {type}?",
    ),
    "marker_gene": (
        "Which of these genes is a marker of the most frequent cell type here?",
        "Which of these genes sets the most frequent cell type here apart from all others?",
    ),
    "kind_of": ("Is {type}, a type found here, a kind of {kind}?", "Is every {type}, as found here, a {kind}?"),
    "majority_kind_of": (
        "Is the most frequent cell type here a kind of {kind}?",
        "Does the most frequent cell type here belong to the kind {kind}?",
    ),
}
PERCENTS = (10, 25, 50, 75)
YES_NO = ("yes", "no")
HALVES = ("the first", "the second")
ASKED_MARKERS = 10  # of a type, the strongest first, that are asked for

Bools = NDArray[np.bool_]
Ints = NDArray[np.integer]
T = TypeVar("T")


@dataclass(frozen=True)
class BuiltQuestion(Question):
    """A question that was built from labels.

    Attributes
    ----------
    kind : str
        A key of :data:`WORDINGS`.
    about : mapping of str to str
        What the answer can be counted again from: ``type``, ``percent``, ``kind`` (a Cell Ontology id).
    """

    kind: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CountedSamples:
    """Samples with their cells of each type, and what the drawing of questions needs.

    Attributes
    ----------
    types : list of str
    counts : ndarray of int, shape (n_samples, n_types)
    rng : Generator
    n_choices, wanted : int
        Choices of a question, and how many questions are wanted.
    """

    samples: Samples
    types: list[str]
    counts: Ints
    rng: np.random.Generator
    n_choices: int
    wanted: int

    @property
    def sizes(self) -> Ints:
        """Cells of each sample."""
        return self.counts.sum(axis=1)

    @property
    def majority(self) -> Ints:
        """The most frequent type of each sample, -1 where two are as frequent."""
        best = self.counts.max(axis=1, keepdims=True)
        return np.where((self.counts == best).sum(axis=1) == 1, self.counts.argmax(axis=1), -1)

    def by_majority(self) -> Iterator[tuple[int, int]]:
        """Yield samples with their majority type, each type in turn as long as it has samples, in drawn order."""
        drawn = self.rng.permutation(len(self.samples))
        of_type = [drawn[self.majority[drawn] == kind].tolist() for kind in self.rng.permutation(len(self.types))]
        for sample in _in_turn(of_type):
            yield sample, int(self.majority[sample])

    def question(
        self,
        kind: str,
        rows: Iterable[int],
        answer: str,
        choices: Sequence[str],
        about: Mapping[str, object],
        shown: Mapping[str, object] | None = None,
    ) -> BuiltQuestion:
        """Return the question in a drawn wording, its choices in drawn order; ``shown`` stands in for, or beside, what it is about."""
        wording = WORDINGS[kind][self.rng.integers(len(WORDINGS[kind]))]
        order = self.rng.permutation(len(choices))
        return BuiltQuestion(
            tuple(int(row) for row in rows), wording.format(**{**about, **(shown or {})}), answer, tuple(choices[i] for i in order),
            kind=kind, about={name: str(value) for name, value in about.items()},
        )  # fmt: skip

    def paired(self, pool: Iterable[tuple[T, Ints, Ints]]) -> Iterator[tuple[T, int, str]]:
        """Yield (what is asked, item, yes or no): for each yes a no to the same question, half the wanted number of each."""
        pairs: list[tuple[T, int, int]] = []
        for asked, yes, no in pool:
            size = min(len(yes), len(no), self.wanted)
            pairs += zip(
                [asked] * size, self.rng.permutation(yes)[:size].tolist(), self.rng.permutation(no)[:size].tolist()
            )
        for place in self.rng.permutation(len(pairs))[: self.wanted // 2]:
            asked, one, other = pairs[place]
            yield asked, one, "yes"
            yield asked, other, "no"


@dataclass(frozen=True, eq=False)
class Kind:
    """A term of the ontology, and which types are kinds of it, or neither it nor a kind of it; types without a term are in neither."""

    term: str
    name: str
    under: Bools
    apart: Bools


def kinds_of_types(types: Sequence[str], ontology: CellOntology, table: Mapping[str, str] | None) -> list[Kind]:
    """Return the terms that some of the types are kinds of and others are not, sorted by id."""
    found = [ontology.match(label, table=table) for label in types]
    known = [term for term in found if term is not None]
    above = {term: ontology.ancestors(term) for term in known}
    kinds = []
    for kind in sorted(frozenset().union(*above.values())):
        under = np.array([term is not None and kind in above[term] for term in found])
        apart = np.array([term not in (None, kind) for term in found]) & ~under
        if under.any() and apart.any():
            kinds.append(Kind(kind, ontology.name(kind), under, apart))
    return kinds


def majority_type(counted: CountedSamples) -> Iterator[BuiltQuestion]:
    """Yield questions for the most frequent type."""
    for sample, true in counted.by_majority():
        others = [name for name in counted.types if name != counted.types[true]]
        if others:
            drawn = counted.rng.permutation(others)[: counted.n_choices - 1].tolist()
            name = counted.types[true]
            yield counted.question("majority_type", counted.samples.rows[sample], name, [name, *drawn], {})


def type_share(counted: CountedSamples) -> Iterator[BuiltQuestion]:
    """Yield questions whether a type makes up more than a share."""
    asked = [(kind, percent) for kind in range(len(counted.types)) for percent in PERCENTS]
    more = {(kind, percent): 100 * counted.counts[:, kind] > percent * counted.sizes for kind, percent in asked}
    pool = ((each, np.flatnonzero(more[each]), np.flatnonzero(~more[each])) for each in asked)
    for (kind, percent), sample, answer in counted.paired(pool):
        about = {"type": counted.types[kind], "percent": percent}
        yield counted.question("type_share", counted.samples.rows[sample], answer, YES_NO, about)


def contains_type(counted: CountedSamples) -> Iterator[BuiltQuestion]:
    """Yield questions whether a type is there."""
    there = counted.counts > 0
    pool = (
        (kind, np.flatnonzero(there[:, kind]), np.flatnonzero(~there[:, kind])) for kind in range(len(counted.types))
    )
    for kind, sample, answer in counted.paired(pool):
        about = {"type": counted.types[kind]}
        yield counted.question("contains_type", counted.samples.rows[sample], answer, YES_NO, about)


def more_of_type(counted: CountedSamples) -> Iterator[BuiltQuestion]:
    """Yield questions which of two samples of equal size has more cells of a type; the first and the second take turns."""
    pairs: list[list[tuple[int, int, int]]] = []
    for kind in counted.rng.permutation(len(counted.types)).tolist():
        drawn = counted.rng.permutation(len(counted.samples)).tolist()
        met = [
            (one, other) for one, other in zip(drawn[::2], drawn[1::2]) if counted.sizes[one] == counted.sizes[other]
        ]
        column = counted.counts[:, kind]
        pairs.append(
            [
                (kind, *sorted(pair, key=lambda sample: -column[sample]))
                for pair in met
                if column[pair[0]] != column[pair[1]]
            ]
        )
    for place, (kind, larger, smaller) in enumerate(_in_turn(pairs)):
        order = (smaller, larger) if place % 2 else (larger, smaller)
        rows = np.concatenate([counted.samples.rows[sample] for sample in order])
        about = {"type": counted.types[kind]}
        yield counted.question("more_of_type", rows, HALVES[place % 2], HALVES, about, {"n": len(rows) // 2})


def marker_gene(
    counted: CountedSamples, sentences: CellSentences, labels: np.ndarray, depth: int
) -> Iterator[BuiltQuestion]:
    """Yield questions for a marker of the most frequent type, among markers of other types."""
    names, share, elsewhere = high_shares(sentences, labels, depth=depth)
    found = marker_genes(sentences, labels, n=ASKED_MARKERS, depth=depth)
    for sample, true in counted.by_majority():
        name = counted.types[true]
        row = names.index(name)
        no_marker = {sentences.vocabulary.symbols[i] for i in np.flatnonzero(share[row] <= elsewhere[row])}
        own = [marker.gene for marker in found[name]]
        others = sorted({marker.gene for markers in found.values() for marker in markers} & no_marker)
        if own and others:
            gene = own[counted.rng.integers(len(own))]
            drawn = counted.rng.permutation(others)[: counted.n_choices - 1].tolist()
            yield counted.question("marker_gene", counted.samples.rows[sample], gene, [gene, *drawn], {"type": name})


def kind_of(counted: CountedSamples, kinds: Sequence[Kind]) -> Iterator[BuiltQuestion]:
    """Yield questions whether a type of the sample is a kind of a term."""
    there = counted.counts > 0
    pool = ((kind, np.flatnonzero(there & kind.under), np.flatnonzero(there & kind.apart)) for kind in kinds)
    for kind, place, answer in counted.paired(pool):
        sample, column = divmod(place, len(counted.types))
        about = {"type": counted.types[column], "kind": kind.term}
        yield counted.question("kind_of", counted.samples.rows[sample], answer, YES_NO, about, {"kind": kind.name})


def majority_kind_of(counted: CountedSamples, kinds: Sequence[Kind]) -> Iterator[BuiltQuestion]:
    """Yield questions whether the most frequent type is a kind of a term."""
    sure, types = np.flatnonzero(counted.majority >= 0), counted.majority[counted.majority >= 0]
    pool = ((kind, sure[kind.under[types]], sure[kind.apart[types]]) for kind in kinds)
    for kind, sample, answer in counted.paired(pool):
        rows, about = counted.samples.rows[sample], {"kind": kind.term}
        yield counted.question("majority_kind_of", rows, answer, YES_NO, about, {"kind": kind.name})


def _in_turn(groups: Sequence[Sequence[T]]) -> Iterator[T]:
    """Yield the first of every group, then the second, until none is left."""
    nothing = object()
    for each in zip_longest(*groups, fillvalue=nothing):
        yield from (item for item in each if item is not nothing)  # type: ignore[misc]
