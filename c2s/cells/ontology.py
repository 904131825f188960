"""The Cell Ontology: which term a label means, how far two terms lie apart, and which is a kind of which."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, Self

from c2s.cells.genes import listed
from c2s.cells.obo import Term, parse_obo, read_obo
from c2s.errors import DataError

Relation = Literal["same", "ancestor", "descendant", "none"]

_GREEK = {
    "α": " alpha ",
    "β": " beta ",
    "γ": " gamma ",
    "δ": " delta ",
    "ε": " epsilon ",
    "κ": " kappa ",
    "λ": " lambda ",
}
_SIGN = re.compile(r"(?<=[a-z0-9])(\+|-|−)(?=$|[^a-z0-9+−-])")
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Matches:
    """Labels and the terms they mean.

    Attributes
    ----------
    ids : mapping of str to str
        Label → id of its term.
    how : mapping of str to str
        Label → what it was found by: table, id, name, synonym, normalised name, normalised synonym, or one of these "+ cell".
    unmatched : mapping of str to str
        Label → why no term was found.
    """

    ids: Mapping[str, str]
    how: Mapping[str, str]
    unmatched: Mapping[str, str]


class CellOntology:
    """Terms and the kinds they are of. An edge is an ``is_a``, or the genus of a logical definition.

    Parameters
    ----------
    terms : iterable of Term
    version : str

    Raises
    ------
    DataError
        Two terms share an id, a term is a kind of itself through others, or a parent in the terms' own namespace is missing.

    Notes
    -----
    Releases such as ``cl-basic`` leave out an ``is_a`` that follows from a logical definition; without the genera, one term in
    five would hang from nothing. Parents of another ontology that the file does not hold are no edges.
    """

    def __init__(self, terms: Iterable[Term], *, version: str = "") -> None:
        found: dict[str, Term] = {}
        for term in terms:
            if term.id in found:
                msg = f"two terms have the id {term.id}: {found[term.id].name!r} and {term.name!r}"
                raise DataError(msg)
            found[term.id] = term
        self.terms: Mapping[str, Term] = MappingProxyType(found)
        self.version = version
        self._parents = {term.id: self._parents_of(term) for term in found.values()}
        self._children: dict[str, list[str]] = {term: [] for term in found}
        for child, parents in self._parents.items():
            for parent in parents:
                self._children[parent].append(child)
        self._refuse_cycles()
        self._alternatives = {old: term.id for term in found.values() for old in term.alternatives if old not in found}
        self._index = _index(found.values())
        self._steps = lru_cache(maxsize=1024)(self._steps_from)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return the ontology in an OBO file such as ``cl-basic.obo``, plain or gzipped (:func:`c2s.cells.obo.read_obo`)."""
        header, terms = read_obo(path)
        return cls(terms, version=header.get("data-version", ""))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the ontology in OBO text."""
        header, terms = parse_obo(text)
        return cls(terms, version=header.get("data-version", ""))

    def __len__(self) -> int:
        return len(self.terms)

    def __contains__(self, term: object) -> bool:
        return term in self.terms

    def name(self, term: str) -> str:
        """Return the name of a term."""
        return self.terms[self._id(term)].name

    def parents(self, term: str) -> tuple[str, ...]:
        """Return the terms that ``term`` is directly a kind of."""
        return self._parents[self._id(term)]

    def ancestors(self, term: str) -> frozenset[str]:
        """Return every term that ``term`` is a kind of, itself left out."""
        return self._reached(self._id(term), self._parents)

    def descendants(self, term: str) -> frozenset[str]:
        """Return every term that is a kind of ``term``, itself left out."""
        return self._reached(self._id(term), self._children)

    def relation(self, first: str, second: str) -> Relation:
        """Return what ``first`` is to ``second``: the same, an ancestor (more general), a descendant (more special) or none."""
        first, second = self._id(first), self._id(second)
        if first == second:
            return "same"
        if first in self.ancestors(second):
            return "ancestor"
        return "descendant" if second in self.ancestors(first) else "none"

    def distance(self, first: str, second: str) -> float:
        """Return the edges on the shortest path between two terms, up or down; inf where nothing joins them."""
        return float(self._steps(self._id(first)).get(self._id(second), float("inf")))

    def lowest_common_ancestors(self, first: str, second: str) -> tuple[str, ...]:
        """Return the most special terms that both are, or are a kind of, sorted; several where they meet in several, none where nowhere."""
        first, second = self._id(first), self._id(second)
        common = (self.ancestors(first) | {first}) & (self.ancestors(second) | {second})
        above = frozenset().union(*(self.ancestors(term) for term in common))
        return tuple(sorted(common - above))

    def match(self, label: str, *, table: Mapping[str, str] | None = None) -> str | None:
        """Return the id of the term a label means, or None: see :meth:`match_all`."""
        return self._match(label, table or {})[0]

    def match_all(self, labels: Iterable[str], *, table: Mapping[str, str] | None = None) -> Matches:
        """Return the terms that labels mean, and the labels that none was found for.

        Parameters
        ----------
        table : mapping of str to str
            Labels whose id is known, such as a table made for a data set: it comes first.

        Notes
        -----
        A label is tried as an id, a name, an exact synonym, then with case, punctuation, plural, Greek letters and signs
        (``CD14+`` is *CD14 positive*) made alike, then with *cell* behind it. Broad, narrow and related synonyms are not used.
        Obsolete terms stand for the one that replaced them. A label that fits several terms equally well is not matched.

        Raises
        ------
        DataError
            ``table`` names a term that is not in the ontology.
        """
        ids, how, unmatched = {}, {}, {}
        for label in dict.fromkeys(map(str, labels)):
            term, reason = self._match(label, table or {})
            if term is None:
                unmatched[label] = reason
            else:
                ids[label], how[label] = term, reason
        return Matches(ids, how, unmatched)

    def _match(self, label: str, table: Mapping[str, str]) -> tuple[str | None, str]:
        """Return the id and what it was found by, or None and why not."""
        if label in table:
            return self._id(table[label]), "table"
        text = label.strip()
        known = self._alternatives.get(text, text)
        if known in self.terms:
            return self._current(known, "id")
        if not normalised_label(text):
            return None, "it holds no word"
        for suffix in ("", " cell"):
            for kind, key in _forms(text + suffix):
                found = self._index.get(kind, {}).get(key, set())
                current = {self._current(term, kind)[0] for term in found} - {None}
                if len(current) == 1:
                    return current.pop(), kind + (" + cell" if suffix else "")
                if len(current) > 1:
                    return None, f"its {kind} fits {listed(sorted(term for term in current if term))}"
                if found:
                    return None, self._current(min(found), kind)[1]
        return None, "no name or exact synonym is like it"

    def _current(self, term: str, how: str) -> tuple[str | None, str]:
        """Return a term, or what replaced it if it is obsolete."""
        if not self.terms[term].obsolete:
            return term, how
        for new in self.terms[term].replaced_by:
            if new in self.terms and not self.terms[new].obsolete:
                return new, how
        return None, f"{term} is obsolete, and nothing in this ontology replaced it"

    def _id(self, term: str) -> str:
        term = self._alternatives.get(term, term)
        if term not in self.terms:
            msg = f"no term {term!r} among {len(self):,} terms ({listed(self.terms, 3)}); match(label) finds the id of a label"
            raise DataError(msg)
        return term

    def _parents_of(self, term: Term) -> tuple[str, ...]:
        if term.obsolete:
            return ()
        prefix = term.id.partition(":")[0] + ":"
        every = dict.fromkeys((*term.parents, *term.genera))
        missing = [parent for parent in every if parent not in self.terms and parent.startswith(prefix)]
        if missing:
            msg = f"{term.id} ({term.name}) is a kind of {listed(missing)}, which the ontology lacks; the file is truncated or a part: use a whole one"
            raise DataError(msg)
        return tuple(parent for parent in every if parent in self.terms)

    def _refuse_cycles(self) -> None:
        """Take away terms without parents until none is left (Kahn); what stays lies on or below a cycle."""
        waiting = {term: len(parents) for term, parents in self._parents.items()}
        free = deque(term for term, count in waiting.items() if not count)
        while free:
            term = free.popleft()
            del waiting[term]
            for child in self._children[term]:
                waiting[child] -= 1
                if not waiting[child]:
                    free.append(child)
        if not waiting:
            return
        path = [min(waiting)]
        while path.count(path[-1]) == 1:
            path.append(next(parent for parent in self._parents[path[-1]] if parent in waiting))
        msg = (
            f"terms are kinds of themselves: {' → '.join(path[path.index(path[-1]) :])}; remove one of these is_a lines"
        )
        raise DataError(msg)

    def _reached(self, start: str, edges: Mapping[str, Iterable[str]]) -> frozenset[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = [term for term in edges[waiting.pop()] if term not in seen]
            seen.update(new)
            waiting += new
        return frozenset(seen)

    def _steps_from(self, start: str) -> dict[str, int]:
        """Return how far every term is from ``start`` (breadth first)."""
        steps = {start: 0}
        waiting = deque([start])
        while waiting:
            term = waiting.popleft()
            for other in (*self._parents[term], *self._children[term]):
                if other not in steps:
                    steps[other] = steps[term] + 1
                    waiting.append(other)
        return steps


def normalised_label(label: str) -> str:
    """Return a label in small letters and single words, with signs spelt out and plurals made singular."""
    text = unicodedata.normalize("NFKC", label).casefold()
    for letter, name in _GREEK.items():
        text = text.replace(letter, name)
    text = _SIGN.sub(lambda sign: " positive " if sign[1] == "+" else " negative ", text)
    return " ".join(_singular(word) for word in _WORD.findall(text))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _forms(label: str) -> list[tuple[str, str]]:
    """Return how a label is looked up, the strictest way first."""
    loose = normalised_label(label)
    forms = [("name", label), ("synonym", label), ("normalised name", loose), ("normalised synonym", loose)]
    return [(kind, key) for kind, key in forms if key]


def _index(terms: Iterable[Term]) -> dict[str, dict[str, set[str]]]:
    """Return kind of name → name → ids. Names of terms in use hide those of obsolete ones."""
    index: dict[str, dict[str, set[str]]] = {}
    for term in sorted(terms, key=lambda term: term.obsolete):
        name = term.name.removeprefix("obsolete ") if term.obsolete else term.name
        names = [("name", name), ("normalised name", normalised_label(name))]
        for text, scope in term.synonyms:
            if scope == "EXACT":
                names += [("synonym", text), ("normalised synonym", normalised_label(text))]
        for kind, key in names:
            if not (term.obsolete and key in index.get(kind, {})):
                index.setdefault(kind, {}).setdefault(key, set()).add(term.id)
    return index
