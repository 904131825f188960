"""Gene programmes to score: packaged sets, sets of a GMT file, text files, lists; checked against a vocabulary."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from c2s.cells.gene_sets import distinct_genes, read_gmt, read_text
from c2s.errors import DataError

if TYPE_CHECKING:
    from c2s.cells.genes import GeneVocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Programme:
    """A named set of genes that is scored as one.

    Attributes
    ----------
    name : str
    genes : tuple of str
        Distinct symbols, in the order given.
    subsets : dict of str to tuple of str
        Parts that are reported apart, such as ``surface`` and ``loading`` of ``MHC_CLASS_I``.
    """

    name: str
    genes: tuple[str, ...]
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def absent(self, vocabulary: GeneVocabulary) -> tuple[str, ...]:
        """Return the genes that ``vocabulary`` does not hold."""
        return tuple(gene for gene in self.genes if gene not in vocabulary)


def load_programme(
    spec: str | os.PathLike[str] | Sequence[str], *, gmt: str | os.PathLike[str] | None = None
) -> Programme:
    """Return the programme that ``spec`` names.

    Parameters
    ----------
    spec : str, path or sequence of str
        * with ``gmt``, the name of a set in that file;
        * a packaged name such as ``"MHC_CLASS_I"`` (:func:`packaged_sets` lists them);
        * the path of a text file of gene symbols, separated by white space or commas, ``#`` starts a comment;
        * a list of gene symbols.
    gmt : path, optional
        GMT file, plain or ``.gz``: one set per line, name, description and genes separated by tabs.

    Raises
    ------
    DataError
        Unknown name (the message lists near ones) or a set without genes.
    ArtefactError
        A file that cannot be read.
    """
    if not isinstance(spec, str | os.PathLike):
        return Programme("custom", distinct_genes(spec, "the list of genes"))
    packaged = packaged_sets()
    if gmt is not None and (str(spec) in (sets := read_gmt(gmt)) or str(spec) not in packaged):
        return Programme(str(spec), _lookup(str(spec), sets, f"{gmt} or among the packaged programmes"))
    if str(spec) in packaged:
        name, genes = str(spec), packaged[str(spec)]
        parts = {k.removeprefix(f"{name}_").lower(): v for k, v in packaged.items() if k.startswith(f"{name}_")}
        return Programme(name, genes, {part: v for part, v in parts.items() if set(v) < set(genes)})
    path = Path(spec)
    if isinstance(spec, str) and not path.is_file():
        _lookup(spec, packaged, "the packaged programmes, and there is no such file; for a set of your own pass gmt=")
    if path.name.endswith((".gmt", ".gmt.gz")):
        msg = f"{path} is a GMT file; pass it as gmt= and name one of its sets: {_some(list(read_gmt(path)))}"
        raise DataError(msg)
    lines = [line.split("#")[0].replace(",", " ") for line in read_text(path).splitlines()]
    return Programme(path.stem, distinct_genes(" ".join(lines).split(), str(path)))


def packaged_sets() -> dict[str, tuple[str, ...]]:
    """Return the sets that ship with c2s: ``MHC_CLASS_I`` with its parts, and short textbook pathways."""
    with resources.as_file(resources.files("c2s.screening") / "data" / "programmes.gmt") as path:
        return read_gmt(path)


def programme_ids(
    programme: Programme,
    vocabulary: GeneVocabulary,
    *,
    measured: Collection[str] | None = None,
    min_share: float = 0.5,
) -> NDArray[np.int32]:
    """Return the ids of the programme's genes in ``vocabulary``, in programme order; absent genes are logged.

    Parameters
    ----------
    measured : collection of str, optional
        Genes of the cells; one they lack counts as absent, since it would only look silent.

    Raises
    ------
    DataError
        Less than ``min_share`` of the genes, or none, is in the vocabulary and the cells; present and absent genes are
        listed.
    """
    absent = [
        gene for gene in programme.genes if gene not in vocabulary or (measured is not None and gene not in measured)
    ]
    present = [gene for gene in programme.genes if gene not in set(absent)]
    if not present or len(present) < min_share * len(programme.genes):
        msg = (
            f"{programme.name}: only {len(present)} of {len(programme.genes)} genes are in the vocabulary of "
            f"{len(vocabulary):,} {vocabulary.species} genes and in the cells, fewer than the share of {min_share:g} that is needed. "
            f"Present: {', '.join(present) or 'none'}. Absent: {', '.join(absent)}. "
            "Use cells and a model that hold these genes, or another programme"
        )
        raise DataError(msg)
    if absent:
        logger.warning("%s: %d of %d genes absent: %s", programme.name, len(absent), len(programme.genes), absent)
    return vocabulary.ids(present)


def _lookup(name: str, sets: Mapping[str, tuple[str, ...]], where: str) -> tuple[str, ...]:
    if name in sets:
        return sets[name]
    by_case = {known.upper(): known for known in sets}
    near = [by_case[match] for match in difflib.get_close_matches(name.upper(), by_case, n=5, cutoff=0.5)]
    hint = f"near names: {', '.join(near)}" if near else f"known: {_some(list(sets))}"
    msg = f"no programme {name!r} in {where}; {hint}"
    raise DataError(msg)


def _some(names: Sequence[str], limit: int = 20) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
