"""Gene identity by table: old names to approved symbols, ids to symbols, one species to another. What is ambiguous stays so."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.gene_report import GeneOutcome, GeneReport
from c2s.cells.gene_table import GeneTable, unversioned
from c2s.cells.gene_table import read_gene_table as read_gene_table
from c2s.cells.genes import OnCollision, guess_species, listed
from c2s.cells.scale import ADDITIVE, scale_of
from c2s.errors import ConfigError, DataError

OnAmbiguous = Literal["drop", "keep", "error"]
OnMany = Literal["drop", "sum"]

logger = logging.getLogger(__name__)


def rename_genes(
    adata: ad.AnnData,
    table: Mapping[str, str | Iterable[str]],
    *,
    on_ambiguous: OnAmbiguous = "drop",
    on_collision: OnCollision = "error",
) -> tuple[ad.AnnData, GeneReport]:
    """Return new cells with each gene under its new name in ``table``, and what became of each gene.

    A name that is itself a new name of the table stays, even where it is also an old name of another gene. A name the
    table does not have stays, too. Names are matched as they are written, Ensembl gene ids without their version.

    Parameters
    ----------
    table
        Old name → new name or names, as :func:`read_gene_table` gives them.
    on_ambiguous
        A gene with several new names: ``"drop"`` it, ``"keep"`` its old name, or ``"error"``. None is ever chosen.
    on_collision
        Several genes with the same new name: ``"error"``, or ``"sum"`` to add their counts up.

    Returns
    -------
    cells : AnnData
        Genes in the order of their first appearance. X, every layer and ``raw`` are renamed by the same rules;
        ``var["original_name"]`` holds the old names, several joined by ``|``. At a merged gene the other columns of
        ``var`` keep the first gene's words and hold NaN for numbers. ``varm`` and ``varp`` are left out if genes merge.
        ``uns`` is carried over as it is.
    report : GeneReport
        One outcome for each gene of ``adata.var``.

    Raises
    ------
    ConfigError
        An unknown choice.
    DataError
        Ambiguous or colliding genes where that is an error, logarithms or negative values to add up, genes of two
        species, or of another species than the new names, or no gene left.
    """
    _check_choice("on_ambiguous", on_ambiguous, ("drop", "keep", "error"))
    _check_choice("on_collision", on_collision, ("error", "sum"))
    known = GeneTable.of(table)

    def decide(gene: str) -> GeneOutcome:
        name = unversioned(gene)
        candidates = known.get(name, ())
        if name in known.approved:
            others = [new for new in candidates if new != name]
            return _outcome(gene, name, "approved" + (f": also an old name of {listed(others)}" if others else ""))
        if not candidates:
            return _outcome(gene, gene, "not in the table")
        if len(candidates) == 1:
            return _outcome(gene, candidates[0], "in the table")
        return _outcome(gene, gene if on_ambiguous == "keep" else "", f"ambiguous: {listed(candidates)}", candidates)

    raw_genes = adata.raw.var_names if adata.raw is not None else ()
    outcomes = [decide(gene) for gene in dict.fromkeys(map(str, [*adata.var_names, *raw_genes]))]
    _refuse_other_species(outcomes)
    if on_ambiguous == "error" and (open_ones := [each for each in outcomes if each.candidates]):
        shown = listed(f"{each.old} ({' or '.join(each.candidates)})" for each in open_ones)
        msg = (
            f"{len(open_ones)} genes have several new names: {shown}. Name one in the table, "
            "or pass on_ambiguous='drop' or 'keep' (--on-ambiguous)"
        )
        raise DataError(msg)
    return _carried(adata, decide, add_up=on_collision == "sum", remedy="on_collision='sum' (--on-collision sum)")


def to_species(
    adata: ad.AnnData,
    orthologs: Mapping[str, str | Iterable[str]],
    *,
    species: Literal["human", "mouse"],
    on_many: OnMany = "drop",
) -> tuple[ad.AnnData, GeneReport]:
    """Return new cells with the genes of ``species`` in place of their orthologs, and what became of each gene.

    Parameters
    ----------
    orthologs
        Pairs of human and mouse genes, as :func:`read_gene_table` gives them, in either direction.
    species
        What the genes become.
    on_many
        ``"drop"`` keeps only genes with one ortholog that has no other partner in the table. ``"sum"`` also adds up
        genes that share their only ortholog. A gene with several orthologs is dropped either way: its counts belong to
        none of them.

    Returns
    -------
    cells : AnnData
        As :func:`rename_genes` gives them; genes without an ortholog are gone.
    report : GeneReport
        One outcome for each gene of ``adata.var``.

    Raises
    ------
    ConfigError
        An unknown choice.
    DataError
        The cells already look like ``species``, the table does not lead to it, or no gene is left.
    """
    decide = _ortholog_rule(list(map(str, adata.var_names)), orthologs, species, on_many)
    return _carried(adata, decide, add_up=on_many == "sum", remedy="on_many='sum' (--on-many sum)")


def orthologs_of(
    genes: Iterable[str], orthologs: Mapping[str, str | Iterable[str]], *, species: Literal["human", "mouse"]
) -> GeneReport:
    """Return what becomes of ``genes`` in ``species``: a one-to-one ortholog each, or nothing, by the rules of :func:`to_species`.

    For names without cells, such as those of gene pairs. The arguments and errors are those of :func:`to_species`.
    """
    names = list(dict.fromkeys(map(str, genes)))
    return GeneReport(tuple(map(_ortholog_rule(names, orthologs, species, "drop"), names)))


def _ortholog_rule(
    genes: list[str], orthologs: Mapping[str, str | Iterable[str]], species: str, on_many: str
) -> Callable[[str], GeneOutcome]:
    """Return what says of a gene which ortholog takes its place."""
    _check_choice("species", species, ("human", "mouse"))
    _check_choice("on_many", on_many, ("drop", "sum"))
    if guess_species(genes) == species:
        msg = f"the genes already look {species} ({listed(genes, 4)}); pass the other species, or leave this step out"
        raise DataError(msg)
    forward = _towards(GeneTable.of(orthologs), species)
    back = forward.inverted()

    def decide(gene: str) -> GeneOutcome:
        candidates = forward.get(unversioned(gene), ())
        if not candidates:
            return _outcome(gene, "", "no ortholog in the table")
        if len(candidates) > 1:
            return _outcome(gene, "", f"several orthologs: {listed(candidates)}", candidates)
        sharing = [other for other in back[candidates[0]] if other != unversioned(gene)]
        if not sharing:
            return _outcome(gene, candidates[0], "one-to-one ortholog")
        why = f"ortholog shared: {candidates[0]} with {listed(sharing)}"
        return _outcome(gene, candidates[0], why) if on_many == "sum" else _outcome(gene, "", why, candidates)

    return decide


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"{argument} is {value!r}; choose {' or '.join(map(repr, choices))}"
        raise ConfigError(msg)


def _outcome(old: str, new: str, why: str, candidates: tuple[str, ...] = ()) -> GeneOutcome:
    return GeneOutcome(old, new, "dropped" if not new else "unchanged" if new == old else "renamed", why, candidates)


def _refuse_other_species(outcomes: list[GeneOutcome]) -> None:
    """Refuse a table of one species for the genes of another: a few aliases are spelt alike by accident."""
    new = [each.new for each in outcomes if each.what == "renamed"]
    old, became = guess_species([each.old for each in outcomes]), guess_species(new)
    if {old, became} == {"human", "mouse"}:
        msg = (
            f"the genes look {old}, but the table's new names for {len(new)} of them look {became} ({listed(new, 4)}); "
            f"pass a table of {old} genes, or map species by to_species (c2s genes ortholog)"
        )
        raise DataError(msg)


def _towards(table: GeneTable, species: str) -> GeneTable:
    """Return ``table`` in the direction that ends at ``species``."""
    ends = guess_species(list(table)), guess_species(sorted(table.approved))
    if ends[0] == ends[1] or species not in ends:
        msg = (
            f"the ortholog table leads from names that look {ends[0]} ({listed(table, 3)}) to names that look {ends[1]} "
            f"({listed(sorted(table.approved), 3)}); expected human on one side and mouse on the other"
        )
        raise DataError(msg)
    return table if ends[1] == species else table.inverted()


def _carried(
    adata: ad.AnnData, decide: Callable[[str], GeneOutcome], *, add_up: bool, remedy: str
) -> tuple[ad.AnnData, GeneReport]:
    """Return a copy of ``adata`` with every gene where ``decide`` sends it, ``raw`` included, and the report."""
    adata = adata.to_memory() if adata.isbacked else adata
    cells, report = _mapped(adata, decide, add_up=add_up, remedy=remedy, where="")
    if adata.raw is not None:
        raw, of_raw = _mapped(adata.raw.to_adata(), decide, add_up=add_up, remedy=remedy, where="raw.")
        cells.raw = raw
        logger.info("raw: %s", of_raw.summary())
    logger.info("%s", report.summary())
    return cells, report


def _mapped(
    adata: ad.AnnData, decide: Callable[[str], GeneOutcome], *, add_up: bool, remedy: str, where: str
) -> tuple[ad.AnnData, GeneReport]:
    outcomes = [decide(gene) for gene in map(str, adata.var_names)]
    columns: dict[str, list[int]] = {}  # new name → positions of its genes, by first appearance
    for position, each in enumerate(outcomes):
        if each.new:
            columns.setdefault(each.new, []).append(position)
    if not columns:
        reasons = Counter(each.why.partition(":")[0] for each in outcomes)
        msg = (
            f"{where}var has no gene left of {len(outcomes):,} ({listed(adata.var_names, 4)}): "
            f"{listed(f'{why} ({count:,})' for why, count in reasons.most_common())}. Is it the right table?"
        )
        raise DataError(msg)
    shared = {new: [outcomes[at].old for at in positions] for new, positions in columns.items() if len(positions) > 1}
    if shared and not add_up:
        shown = listed(f"{new} ← {' + '.join(old)}" for new, old in shared.items())
        msg = f"{len(shared)} new names are shared by several genes of {where}var: {shown}. Pass {remedy} to add counts up"
        raise DataError(msg)
    cells = adata[:, [positions[0] for positions in columns.values()]].copy()
    cells.var_names = pd.Index(list(columns))  # without the old name: "gene_id" would be wrong of symbols
    if shared:
        _add_up(cells, adata, columns, where)
    cells.var["original_name"] = ["|".join(outcomes[at].old for at in positions) for positions in columns.values()]
    merged = (each._replace(what="merged") if each.new in shared else each for each in outcomes)
    return cells, GeneReport(tuple(merged))


def _add_up(cells: ad.AnnData, adata: ad.AnnData, columns: dict[str, list[int]], where: str) -> None:
    """Fill the matrices of ``cells`` with sums over ``columns`` of ``adata``; leave out what cannot be summed."""
    sizes = [len(positions) for positions in columns.values()]
    rows = np.concatenate(list(columns.values()))
    sums = sp.csr_matrix(
        (np.ones(len(rows)), (rows, np.repeat(np.arange(len(sizes)), sizes))), (adata.n_vars, len(sizes))
    )
    if adata.X is not None:
        cells.X = _summed(adata.X, sums, f"{where}X")
    for name in adata.layers:
        cells.layers[name] = _summed(adata.layers[name], sums, f"layers[{name!r}]")
    for name in cells.var.select_dtypes("number"):
        cells.var[name] = cells.var[name].astype(float).mask(np.array(sizes) > 1)
    for per_gene in (cells.varm, cells.varp):
        for name in list(per_gene):
            logger.warning("%s is left out: it cannot be added up where genes merge", name)
            del per_gene[name]


def _summed(values: Any, sums: sp.csr_matrix, label: str) -> Any:
    """Return ``values @ sums``: dense or sparse as before, floats as before, whole numbers as int64."""
    data = values.data if sp.issparse(values) else np.asarray(values)
    if data.size and (float(data.min()) < 0 or scale_of(sp.csr_matrix(values)) not in ADDITIVE):
        msg = (
            f"{label} holds logarithms or negative values, which cannot be added up where genes merge; "
            "remove it, or map the genes of counts and normalise after that"
        )
        raise DataError(msg)
    result = values @ sums.astype(values.dtype if values.dtype.kind == "f" else np.int64)
    if sp.issparse(result):
        result.sort_indices()
    return result
