"""Knowledge of gene pairs: ligands with receptors, proteins with proteins; which of it a prompt tells, and a placebo for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from c2s.cells.genes import GeneVocabulary, guess_species, listed, require_vocabulary
from c2s.cells.identity import orthologs_of
from c2s.errors import ConfigError, DataError
from c2s.sentences.corpus import CellSentences

logger = logging.getLogger(__name__)

#: Kind of knowledge → the word between its two sides in a prompt.
KINDS = {"ligand_receptor": "binds", "interaction": "interacts with"}
SWAPS = 20  # tried for each pair by the placebo

Kind = Literal["ligand_receptor", "interaction"]


class GenePair(NamedTuple):
    """Two sides, each the genes of all subunits, sorted: a ligand and a receptor, or two proteins."""

    first: tuple[str, ...]
    second: tuple[str, ...]

    @property
    def genes(self) -> tuple[str, ...]:
        """All genes of both sides."""
        return self.first + self.second


@dataclass(frozen=True)
class PairKnowledge:
    """Pairs of gene sets of one kind, source and species.

    Parameters
    ----------
    pairs : tuple of GenePair
        Each once. The order of the sides tells a ligand from its receptor; of interactions it says nothing, and a pair that is there
        the other way round is the same.
    kind : {"ligand_receptor", "interaction"}
    source : str
        Where it is from: ``"CellPhoneDB"``.
    species : {"human", "mouse"} or any other word
        Of the symbols. Cells of another species are refused.

    Raises
    ------
    ConfigError
        An unknown kind.
    DataError
        A side without genes, or symbols that look like another species.
    """

    pairs: tuple[GenePair, ...]
    kind: Kind
    source: str
    species: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"kind={self.kind!r}; choose {' or '.join(map(repr, KINDS))}"
            raise ConfigError(msg)
        pairs: dict[GenePair, None] = {}
        for first, second in self.pairs:
            pair = GenePair(tuple(sorted(set(first))), tuple(sorted(set(second))))
            if not pair.first or not pair.second or not all(pair.genes):
                msg = f"{self.source} holds a pair without genes on one side: {pair.first} and {pair.second}"
                raise DataError(msg)
            if self.kind == "interaction" and pair.second < pair.first:
                pair = GenePair(pair.second, pair.first)
            pairs[pair] = None
        object.__setattr__(self, "pairs", tuple(pairs))
        guess = guess_species(self.genes)
        if self.species in ("human", "mouse") and guess in ("human", "mouse") and guess != self.species:
            msg = (
                f"species={self.species!r}, but the genes of {self.source} look {guess} ({listed(self.genes, 4)}); "
                f"read it as species={guess!r} and map it by .to_species(orthologs, species={self.species!r})"
            )
            raise DataError(msg)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """Every gene of a pair, once, in order of appearance."""
        return tuple(dict.fromkeys(gene for pair in self.pairs for gene in pair.genes))

    @cached_property
    def degrees(self) -> dict[str, int]:
        """Gene → sides of pairs that hold it."""
        found = dict.fromkeys(self.genes, 0)
        for pair in self.pairs:
            for gene in pair.genes:
                found[gene] += 1
        return found

    def restricted(self, genes: Iterable[str]) -> Self:
        """Return the pairs whose genes, all subunits of both sides, are among ``genes``; there may be none."""
        known = frozenset(genes)
        return replace(self, pairs=tuple(pair for pair in self.pairs if known.issuperset(pair.genes)))

    def to_species(
        self, orthologs: Mapping[str, str | Iterable[str]], *, species: Literal["human", "mouse"]
    ) -> PairKnowledge:
        """Return the pairs with one-to-one orthologs in place of their genes; a pair one gene of which has none is left out.

        Parameters
        ----------
        orthologs
            As :func:`c2s.cells.gene_table.read_gene_table` gives them, in either direction.
        species
            What the genes become.

        Raises
        ------
        DataError
            The genes already look like ``species``, the table does not lead to it, or no pair is left.
        """
        outcomes = orthologs_of(self.genes, orthologs, species=species).outcomes
        new = {each.old: each.new for each in outcomes if each.new}
        kept = [pair for pair in self.pairs if all(gene in new for gene in pair.genes)]
        logger.info(
            "%s: %d of %d genes have a one-to-one ortholog in %s; %d of %d pairs are left",
            self.source, len(new), len(outcomes), species, len(kept), len(self),
        )  # fmt: skip
        if not kept:
            msg = f"no pair of {self.source} has one-to-one orthologs for all its genes; is it the right table?"
            raise DataError(msg)
        pairs = (GenePair(*(tuple(new[gene] for gene in side) for side in pair)) for pair in kept)
        return PairKnowledge(tuple(pairs), self.kind, f"{self.source}, orthologs", species)

    def permuted(self, seed: int) -> PairKnowledge:
        """Return a placebo: partners swapped at random between pairs, so that each gene keeps its number of pairs.

        Pairs trade their second sides (interactions: either), many times over, wherever both new pairs are new and share no gene
        between their sides. Pairs in which a gene binds itself stay. Restrict to the genes of the cells first: swaps over all genes
        would change how many pairs these have among themselves.

        Parameters
        ----------
        seed : int

        Raises
        ------
        DataError
            No pair could be swapped, as with fewer than two.
        """
        sides = sorted({side for pair in self.pairs for side in pair})  # numbers sort as sides do
        number = {side: place for place, side in enumerate(sides)}
        genes = [frozenset(side) for side in sides]
        pairs = [(number[pair.first], number[pair.second]) for pair in self.pairs]
        true, there = frozenset(pairs), set(pairs)
        either = self.kind == "interaction"
        rng = np.random.default_rng(seed)
        draws = rng.integers(0, max(len(pairs), 1), size=(SWAPS * len(pairs), 2))
        turns = rng.random(len(draws)) < 0.5
        swapped = 0
        for (i, j), turn in zip(draws.tolist(), turns.tolist(), strict=True):
            (a, b), (c, d) = pairs[i], pairs[j]
            if either and turn:
                c, d = d, c
            new = [(a, d), (c, b)]
            if either:
                new = [(min(pair), max(pair)) for pair in new]
            if i == j or new[0] == new[1] or not there.isdisjoint(new):
                continue
            if not all(genes[x].isdisjoint(genes[y]) for x, y in ((a, b), (c, d), (a, d), (c, b))):
                continue
            there -= {pairs[i], pairs[j]}
            pairs[i], pairs[j] = new
            there |= set(new)
            swapped += 1
        kept = len(there & true)
        logger.info("placebo of %s: %d swaps; %d of %d pairs are true ones", self.source, swapped, kept, len(self))
        if not swapped:
            msg = f"no two of the {len(self)} pairs of {self.source} can trade partners: there is no placebo of them"
            raise DataError(msg)
        found = tuple(GenePair(sides[a], sides[b]) for a, b in pairs)
        return PairKnowledge(found, self.kind, f"{self.source}, permuted", self.species)


@dataclass(frozen=True, eq=False)
class PairIndex:
    """Pairs as ids of a vocabulary, to look many of them up in cells at once; pairs with other genes are left out.

    Attributes
    ----------
    texts : tuple of str
        Each pair in words.
    sides : ndarray, shape (2, n_pairs, most subunits), int64
        Gene ids; the number of genes fills up.
    """

    texts: tuple[str, ...]
    sides: NDArray[np.int64]
    n_genes: int

    @classmethod
    def of(cls, knowledge: PairKnowledge | Sequence[PairKnowledge], vocabulary: GeneVocabulary) -> Self:
        """Return the pairs of one or several kinds of knowledge whose genes are in ``vocabulary``.

        Raises
        ------
        DataError
            Knowledge of another species than the vocabulary's.
        """
        require_vocabulary(vocabulary)
        kinds = [knowledge] if isinstance(knowledge, PairKnowledge) else list(knowledge)
        for each in kinds:
            if each.species != vocabulary.species:
                msg = (
                    f"{each.source} is of {each.species}, the cells are of {vocabulary.species}; "
                    f"map it by .to_species(orthologs, species={vocabulary.species!r})"
                )
                raise DataError(msg)
        found = [
            (in_words(pair, each.kind), pair) for each in kinds for pair in each.restricted(vocabulary.symbols).pairs
        ]
        width = max((len(side) for _, pair in found for side in pair), default=1)
        sides = np.full((2, len(found), width), len(vocabulary), dtype=np.int64)
        for place, (_, pair) in enumerate(found):
            for side, genes in enumerate(pair):
                sides[side, place, : len(genes)] = vocabulary.ids(genes)
        return cls(tuple(text for text, _ in found), sides, len(vocabulary))

    def ranks(self, cells: Sequence[NDArray[np.integer]]) -> NDArray[np.float64]:
        """Return the rank of each side in each cell, shape (2, n_cells, n_pairs): that of its last subunit, from 1.

        Infinite where a subunit is not in the cell.

        Parameters
        ----------
        cells
            Gene ids of each cell, highest first.
        """
        place = np.full((len(cells), self.n_genes + 1), np.inf)
        place[:, -1] = 0.0
        for row, genes in zip(place, cells, strict=True):
            row[genes] = np.arange(1, len(genes) + 1)
        return np.stack([place[:, side].max(axis=-1, initial=0.0) for side in self.sides])


def in_words(pair: GenePair, kind: Kind) -> str:
    """Return a pair as a prompt tells it: ``Tgfb1 binds Tgfbr1+Tgfbr2``."""
    return f"{'+'.join(pair.first)} {KINDS[kind]} {'+'.join(pair.second)}"


def knowledge_lines(
    knowledge: PairKnowledge | Sequence[PairKnowledge],
    sentences: CellSentences,
    groups: Sequence[Sequence[int] | NDArray[np.integer]],
    *,
    n_genes: int | None = None,
    most: int = 20,
) -> list[list[str]]:
    """Return for each group of cells the pairs that its cells express, strongest first: ``knowledge`` of the spatial tasks.

    A side is present where one cell shown has all its subunits; the other side may be in the same cell or in another. Its rank is
    that of its last subunit, in the cell where that is best. Pairs are sorted by the product of both ranks, then by their words.

    Parameters
    ----------
    groups
        Rows of the cells shown together.
    n_genes
        Genes of a cell that are shown, as in the task; all of its sentence if None.
    most
        Lines of a group, at most, of all kinds of knowledge together.

    Raises
    ------
    ConfigError
        ``n_genes`` or ``most`` below 1.
    DataError
        Knowledge of another species than the cells.
    """
    if most < 1 or (n_genes is not None and n_genes < 1):
        msg = f"n_genes={n_genes}, most={most}; expected at least 1"
        raise ConfigError(msg)
    index = PairIndex.of(knowledge, sentences.vocabulary)
    lines: list[list[str]] = []
    for rows in groups:
        best = index.ranks([sentences.row(int(row))[:n_genes] for row in rows]).min(axis=1, initial=np.inf)
        product = best[0] * best[1]
        present = np.flatnonzero(np.isfinite(product))
        order = sorted(present.tolist(), key=lambda pair: (product[pair], index.texts[pair]))
        lines.append([index.texts[pair] for pair in order[:most]])
    return lines
