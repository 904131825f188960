"""Gene identity: an ordered set of unique symbols with a species. Collisions and species mixtures are errors, never guesses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import pandas as pd

from c2s.artefacts import hash_of
from c2s.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

OnCollision = Literal["error", "sum"]

_HUMAN = re.compile(r"(?=.*[A-Z])[A-Z0-9][A-Z0-9._/-]*(orf[A-Z0-9._-]*)?(?:ps|os|as)?$")  # CD4, C1orf112, HLA-A
_MOUSE = re.compile(r"[A-Z][a-z0-9._-]*[a-z][A-Za-z0-9._-]*$|[0-9]+[A-Z0-9]+Rik$")  # Cd4, Gm1992, 0610009B22Rik
_HUMAN_ID = ("ENSG0", "GRCh3", "hg19_", "hg38_")
_MOUSE_ID = ("ENSMUSG0", "mm10_", "mm39_", "mm9_", "GRCm3")
_LOOKED_AT = 4000  # symbols, at least, whose writing is looked at
_MIXED_SHARE = 0.2  # of the genes that look like either species; annotation oddities stay below it


@dataclass(frozen=True)
class GeneVocabulary:
    """Unique gene symbols (or Ensembl ids) in column order, and their species.

    Parameters
    ----------
    symbols : tuple of str
        Unique and not empty. The position of a symbol is its id in every sentence.
    species : str
        ``"human"``, ``"mouse"``, or any other word.

    Raises
    ------
    DataError
        A symbol is empty or appears twice.
    """

    symbols: tuple[str, ...]
    species: str = "human"

    def __post_init__(self) -> None:
        if not isinstance(self.symbols, tuple):
            object.__setattr__(self, "symbols", tuple(self.symbols))
        if not self.symbols:
            msg = "a gene vocabulary needs at least one gene"
            raise DataError(msg)
        words = set(map(type, self.symbols)) == {str}
        bare = list(map(str.strip, self.symbols)) if words else []
        if not words or not all(bare):
            wrong = [symbol for symbol in self.symbols if not isinstance(symbol, str) or not symbol.strip()]
            msg = f"gene symbols must be words; found {wrong[:5]!r}"
            raise DataError(msg)
        if bare != list(self.symbols) or not "".join(bare).isprintable():
            hidden = [symbol for symbol in self.symbols if not symbol.isprintable() or symbol != symbol.strip()]
            msg = (
                f"{len(hidden)} gene symbols have white space around them or hold invisible characters: {hidden[:5]!r}. "
                r"Clean them, e.g. adata.var_names = adata.var_names.str.strip(' \ufeff\t\n')"
            )
            raise DataError(msg)
        refuse_duplicates(self.symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._index

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: position for position, symbol in enumerate(self.symbols)}

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name the symbols, their order and the species."""
        return hash_of("\x00".join(self.symbols), self.species)

    def index(self, symbol: str) -> int:
        """Return the id of ``symbol``; an unknown one is a DataError."""
        try:
            return self._index[symbol]
        except KeyError:
            msg = f"gene {symbol!r} is not among the {len(self):,} {self.species} genes of this vocabulary"
            raise DataError(msg) from None

    def ids(self, symbols: Iterable[str], *, missing: Literal["error", "drop"] = "error") -> np.ndarray:
        """Return the ids of ``symbols``, int32, in the order given.

        Raises
        ------
        DataError
            Genes are unknown and ``missing="error"``; the message lists them.
        """
        wanted = list(symbols)
        absent = [symbol for symbol in wanted if symbol not in self._index]
        if absent and missing == "error":
            msg = f"{len(absent)} of {len(wanted)} genes are not in the vocabulary: {listed(absent)}"
            raise DataError(msg)
        return np.array([self._index[symbol] for symbol in wanted if symbol in self._index], dtype=np.int32)

    @classmethod
    def from_adata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        species: str | None = None,
        on_collision: OnCollision = "error",
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the genes of ``adata`` (of ``adata.raw`` with ``layer="raw"``), in column order.

        Parameters
        ----------
        species
            Checked against the symbols; guessed from them if None.
        on_collision
            ``"error"`` lists symbols that occur twice; ``"sum"`` keeps the first of each, as
            :func:`c2s.cells.reading.expression` does when it adds their columns up.
        aliases
            Old name → current name, applied before collisions are looked for.

        Raises
        ------
        DataError
            Duplicated genes, or genes of two species.
        """
        names = adata.raw.var_names if layer == "raw" and adata.raw is not None else adata.var_names
        return cls.from_symbols(names_of(names, "genes"), species=species, on_collision=on_collision, aliases=aliases)

    @classmethod
    def from_symbols(
        cls,
        symbols: Sequence[str],
        *,
        species: str | None = None,
        on_collision: OnCollision = "error",
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the vocabulary of ``symbols``; the arguments are those of :meth:`from_adata`."""
        mapped = apply_aliases(symbols, aliases)
        if on_collision == "error":
            refuse_duplicates(mapped)
        elif on_collision != "sum":
            msg = f"on_collision is {on_collision!r}; choose 'error' or 'sum'"
            raise ConfigError(msg)
        guess = guess_species(mapped)
        if species in {"human", "mouse"} and guess in {"human", "mouse"} and guess != species:
            msg = f"species={species!r}, but the symbols look {guess} ({listed(mapped, 4)}); pass species={guess!r}"
            raise DataError(msg)
        return cls(tuple(dict.fromkeys(mapped)), species or guess)

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that JSON can hold; :meth:`from_dict` reads it back."""
        return {"symbols": list(self.symbols), "species": self.species}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the vocabulary that :meth:`to_dict` described."""
        return cls(tuple(record["symbols"]), record["species"])


def require_vocabulary(vocabulary: Any) -> None:
    """Raise a ConfigError where ``vocabulary`` is no :class:`GeneVocabulary`; return None if it is."""
    if not isinstance(vocabulary, GeneVocabulary):
        msg = f"vocabulary is a {type(vocabulary).__name__}; pass sentences.vocabulary, or GeneVocabulary.from_symbols(genes)"
        raise ConfigError(msg)


def names_of(index: Iterable[Any], what: str) -> list[str]:
    """Return the names in an index of AnnData as strings.

    Parameters
    ----------
    what
        ``"genes"`` or ``"cells"``, for the message.

    Raises
    ------
    DataError
        A name is missing (None or NaN), which as a string would pass for a name.
    """
    if isinstance(index, pd.Index):
        if index.inferred_type == "string" and not index.hasnans:
            return cast("list[str]", index.tolist())  # far quicker than going through the index
        index = index.tolist()
    names = list(index)
    missing = [place for place, name in enumerate(names) if name is None or name != name]
    if missing:
        msg = f"{len(missing)} {what} have no name (first at position {missing[0]}); name them or leave them out"
        raise DataError(msg)
    return list(map(str, names))


def apply_aliases(symbols: Sequence[str], aliases: Mapping[str, str] | None) -> list[str]:
    """Return ``symbols`` with each alias replaced by its current name."""
    return [aliases.get(symbol, symbol) for symbol in symbols] if aliases else list(symbols)


def guess_species(symbols: Sequence[str]) -> str:
    """Return ``"human"``, ``"mouse"`` or ``"unknown"`` from how the symbols are written.

    Ensembl ids (ENSG, ENSMUSG) and genome prefixes (GRCh38, hg19, mm10) decide; otherwise the case of the letters does:
    human symbols are upper case (CD4, C1orf112), mouse symbols capitalised (Cd4). Rat is written like mouse: say so by
    ``species=``.

    Of many symbols every other, third, … is looked at.

    Raises
    ------
    DataError
        Genes of both species, each at least a fifth of those recognised (or any pair of ENSG and ENSMUSG ids).
    """
    human_ids, mouse_ids = _begin_with(_HUMAN_ID, symbols), _begin_with(_MOUSE_ID, symbols)
    if human_ids and mouse_ids:
        _refuse_mixture(human_ids, mouse_ids)
    if human_ids or mouse_ids:
        return "human" if human_ids else "mouse"
    symbols = symbols[:: max(1, len(symbols) // _LOOKED_AT)]
    human: list[str] = []
    mouse: list[str] = []
    for symbol in symbols:
        if _HUMAN.match(symbol):
            human.append(symbol)
        elif _MOUSE.match(symbol):
            mouse.append(symbol)
    recognised = len(human) + len(mouse)
    if not recognised or recognised < 0.5 * len(symbols):
        return "unknown"
    if recognised >= 10 and min(len(human), len(mouse)) > _MIXED_SHARE * recognised:
        _refuse_mixture(human, mouse)
    return "human" if len(human) >= len(mouse) else "mouse"


def _begin_with(beginnings: tuple[str, ...], symbols: Sequence[str]) -> list[str]:
    text = "\n".join(symbols)
    if not any(map(text.__contains__, beginnings)):  # as in most data
        return []
    return [symbol for symbol in symbols if symbol.startswith(beginnings)]


def twins(symbols: Sequence[str]) -> list[str]:
    """Return the symbols that differ from another one by the case of letters only, in pairs."""
    capitals = list(map(str.upper, symbols))
    if len(set(capitals)) == len(capitals):
        return []
    by_case: dict[str, list[str]] = {}
    for symbol, capital in zip(symbols, capitals, strict=True):
        by_case.setdefault(capital, []).append(symbol)
    return [symbol for group in by_case.values() if len(group) > 1 for symbol in group]


def _refuse_mixture(human: Sequence[str], mouse: Sequence[str]) -> None:
    msg = (
        f"genes of two species: {len(human):,} look human ({listed(human, 3)}) and {len(mouse):,} look like mouse "
        f"({listed(mouse, 3)}); split the data by species, or map one species to the other before encoding"
    )
    raise DataError(msg)


def refuse_duplicates(symbols: Sequence[str]) -> None:
    """Raise a DataError that lists the symbols occurring more than once; return None if there is none."""
    if len(set(symbols)) == len(symbols):
        return
    repeated = [symbol for symbol, count in Counter(symbols).items() if count > 1]
    msg = (
        f"{len(repeated)} gene symbols occur more than once: {listed(repeated)}. "
        "Make them unique by adata.var_names_make_unique(), or add their counts up: c2s encode --on-collision sum, "
        "or matrix, genes = c2s.cells.reading.expression(adata, on_collision='sum') and an AnnData made of both"
    )
    raise DataError(msg)


def listed(items: Iterable[str], limit: int = 10) -> str:
    """Return the first ``limit`` items joined by commas, and how many more there are."""
    every = [str(item) for item in items]
    rest = f" and {len(every) - limit:,} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + rest
