"""Predicted pathway changes: gene set enrichment of a predicted shift of gene ranks. Positive means that a set rises."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd

from c2s.errors import DataError
from c2s.stats import benjamini_hochberg

logger = logging.getLogger(__name__)

COLUMNS = ("term", "es", "nes", "p_value", "q_value", "n_genes", "leading_genes")


def pathway_changes(
    shift: pd.DataFrame,
    gene_sets: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    min_size: int = 3,
    max_size: int = 500,
    n_permutations: int = 1000,
) -> dict[str, pd.DataFrame]:
    """Return, for every column of ``shift``, one row per gene set with its normalised enrichment score.

    Pre-ranked gene set enrichment (Subramanian et al. 2005, doi:10.1073/pnas.0506580102) as implemented by GSEApy
    (Fang et al. 2023, doi:10.1093/bioinformatics/btac757), single thread. Genes with the same shift are ordered by a
    hash of their symbol, so the result depends neither on the order of the rows nor on an alphabet that keeps gene
    families together. Permuting genes ignores that genes of a set move together: the p-values rank the sets, they are
    not error rates for the drug.

    Parameters
    ----------
    shift : DataFrame, shape (n_genes, n_columns), any unit that rises with expression
        Index: unique gene symbols. Columns: what is compared, for example ``"CX-4945 · interferon low"``. A gene that
        *rises* has a *positive* shift (for ranks: rank after vehicle minus rank after the drug).
    gene_sets : mapping of str to sequence of str
        Name to member symbols. Members absent from ``shift`` are dropped; sets left with fewer than ``min_size`` or more
        than ``max_size`` genes are left out and named in ``attrs["left_out"]``.
    seed : int
        Seed of the permutations.
    n_permutations : int
        The smallest reachable p-value is ``1 / (n_permutations + 1)``.

    Returns
    -------
    dict of str to DataFrame
        Columns ``term``, ``es``, ``nes`` (positive: the set rises), ``p_value``, ``q_value`` (Benjamini-Hochberg within
        the column), ``n_genes`` (members found), ``leading_genes`` (joined by ``|``), sorted by falling ``nes``. A column
        that cannot be tested gives an empty table whose ``attrs["reason"]`` says why.

    Raises
    ------
    DataError
        ``shift`` is empty, names a gene or a column twice, or holds values that are not finite.
    """
    _check(shift)
    present = set(shift.index)
    found = {name: sorted(set(genes) & present) for name, genes in gene_sets.items()}
    limit = min(max_size, len(shift) - 1)
    usable = {name: genes for name, genes in found.items() if min_size <= len(genes) <= limit}
    left_out = {name: len(genes) for name, genes in found.items() if name not in usable}
    if left_out:
        logger.info("gene sets with fewer than %d or more than %d genes here: %s", min_size, limit, sorted(left_out))
    changes = {}
    for name in shift.columns:
        values = shift[name].astype(np.float64)
        reason = ""
        if not usable:
            reason = (
                f"none of the {len(gene_sets)} gene sets has between {min_size} and {limit} genes among those shifted"
            )
        elif not np.any(values.to_numpy()):
            reason = "no gene moves"
        table = _empty() if reason else _prerank(_without_ties(values), usable, seed, n_permutations)
        table.attrs.update({"left_out": left_out, "n_permutations": n_permutations, "seed": seed})
        if reason:
            table.attrs["reason"] = reason
        changes[str(name)] = table
    return changes


def _check(shift: pd.DataFrame) -> None:
    if shift.shape[0] < 2 or shift.shape[1] < 1:
        msg = f"shift has shape {shift.shape}; it needs at least two genes (rows) and one column"
        raise DataError(msg)
    for axis, labels in (("gene", shift.index), ("column", shift.columns)):
        if not labels.is_unique:
            twice = sorted({str(label) for label in labels[labels.duplicated()]})
            msg = f"shift names a {axis} twice: {', '.join(twice[:10])}; give each {axis} once"
            raise DataError(msg)
    if not np.isfinite(shift.to_numpy(dtype=np.float64)).all():
        msg = "shift holds values that are not finite; pass 0 for a gene that does not move, or leave the gene out"
        raise DataError(msg)


def _without_ties(values: pd.Series) -> pd.Series:
    """Return ``values`` in falling order with ties split by amounts too small to matter, in the order of a hash."""
    order = sorted(values.index, key=lambda gene: hashlib.blake2b(str(gene).encode(), digest_size=8).digest())
    ranked = values.loc[order].sort_values(ascending=False, kind="stable")
    scale = float(np.abs(ranked.to_numpy()).max())
    return ranked + np.linspace(scale * 1e-9, -scale * 1e-9, len(ranked))


def _prerank(values: pd.Series, sets: dict[str, list[str]], seed: int, n_permutations: int) -> pd.DataFrame:
    import gseapy

    with _quiet():
        result = gseapy.prerank(
            values,
            sets,
            outdir=None,
            min_size=1,
            max_size=len(values),
            permutation_num=n_permutations,
            threads=1,
            seed=seed,
            no_plot=True,
            verbose=False,
        ).res2d
    p_value = np.maximum(result["NOM p-val"].astype(float).to_numpy(), 1.0 / (n_permutations + 1))
    table = pd.DataFrame(
        {
            "term": result["Term"].astype(str),
            "es": result["ES"].astype(float),
            "nes": result["NES"].astype(float),
            "p_value": p_value,
            "q_value": benjamini_hochberg(p_value),
            "n_genes": [len(sets[term]) for term in result["Term"]],
            "leading_genes": result["Lead_genes"].astype(str).str.replace(";", "|", regex=False),
        }
    )
    return table.sort_values(["nes", "term"], ascending=[False, True], kind="stable", ignore_index=True)


def _empty() -> pd.DataFrame:
    kinds = dict.fromkeys(COLUMNS, "float64") | {"term": "object", "leading_genes": "object", "n_genes": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=kinds[name]) for name in COLUMNS})


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence GSEApy, which logs at ERROR what is no error, and leave the level of logging as it was."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
