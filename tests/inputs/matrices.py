"""Cases of matrices, genes and cells in memory."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.cells.normalise import to_log1p_cp10k
from c2s.errors import DataError
from c2s.sentences.stream import encode_file
from tests.inputs.registry import (
    CASES,
    COUNTS,
    GENES,
    G,
    N,
    as_counts,
    case,
    cells,
    changed,
    file_of,
    ranked_as,
    refusal,
    refused,
    single,
    warning,
)

# Matrix


for name, value in (("nan", np.nan), ("infinite", np.inf)):
    CASES[name] = lambda _, value=value: refused(changed(value))


@case("negative-raw")
def _(_: Path) -> str:
    adata = cells()
    adata.raw = adata.copy()
    adata.X = adata.X - 1
    ranked_as(COUNTS, c2s.encode(adata, layer="raw"))
    return refusal(DataError, lambda: c2s.encode(adata))


CP10K = 1e4 * COUNTS / COUNTS.sum(axis=1, keepdims=True)
SCALES = {
    "normalised": CP10K,
    "log1p": np.log1p(CP10K),
    "log2": np.log2(1 + CP10K),
    "log10": np.log10(1 + CP10K),
    "sqrt": np.sqrt(CP10K),
}


def _scale(values: np.ndarray, folder: Path) -> str:
    """Return the name found, of cells in memory and in a file, after both gave the sentences of the counts."""
    adata = cells(values.astype(np.float32))
    sentences = c2s.encode(adata)
    written = encode_file(file_of(adata, folder / "cells.h5ad"), folder / "out", progress=False)
    for found in (sentences, c2s.read_sentences(folder / "out")):
        ranked_as(COUNTS, found)
        assert found.encoding.values == written.values
    expected, _ = to_log1p_cp10k(single())
    np.testing.assert_allclose(to_log1p_cp10k(sp.csr_matrix(adata.X))[0].toarray(), expected.toarray(), rtol=1e-4)
    return written.values


for name, transformed in SCALES.items():
    CASES[name] = lambda folder, values=transformed: _scale(values, folder)


@case("unit-range")
def _(_: Path) -> str:
    adata = cells((COUNTS / COUNTS.max(axis=0).clip(1)).astype(np.float32))
    assert c2s.encode(adata).encoding.values == "scaled"
    return warning(lambda: c2s.encode(adata))


@case("mixed")
def _(_: Path) -> str:
    values = np.where(np.arange(N)[:, None] % 2, COUNTS, np.log1p(CP10K)).astype(np.float32)
    found = c2s.encode(cells(values))
    ranked_as(COUNTS, found)
    assert found.encoding.values == "mixed"
    return warning(lambda: c2s.encode(cells(values)))


@case("empty-cell")
def _(_: Path) -> str:
    counts = np.where(np.arange(N)[:, None] == 3, 0, COUNTS)
    found = c2s.encode(cells(counts))
    ranked_as(counts, found)
    assert (found.lengths[3], found.n_expressed[3], found.text(3)) == (0, 0, "")
    return "empty sentence"


@case("three-dimensional")
def _(folder: Path) -> str:
    adata = cells(layers={"spliced": np.ones((N, G, 2))})
    path = file_of(adata, folder / "cells.h5ad")
    refusal(DataError, lambda: encode_file(path, folder / "out", layer="spliced", progress=False))
    return refusal(DataError, lambda: c2s.encode(adata, layer="spliced"))


@case("csc-file")
def _(folder: Path) -> str:
    path = file_of(cells(sp.csc_matrix(single())), folder / "cells.h5ad")
    said = warning(lambda: encode_file(path, folder / "out", progress=False))
    ranked_as(COUNTS, c2s.read_sentences(folder / "out"))
    return said


@case("stored-zeros")
def _(_: Path) -> str:
    every = np.tile(np.arange(G), N)
    matrix = sp.csr_matrix((COUNTS.ravel().astype(np.float32), every, np.arange(0, N * G + 1, G)), (N, G))
    assert matrix.nnz > np.count_nonzero(COUNTS)
    as_counts(matrix)
    return "zeros count as absent"


@case("unsorted")
def _(_: Path) -> str:
    matrix = single()
    for start, stop in zip(matrix.indptr, matrix.indptr[1:]):
        for array in (matrix.indices, matrix.data):
            array[start:stop] = array[start:stop][::-1].copy()
    matrix.has_sorted_indices = False
    return as_counts(matrix)


@case("repeated-entries")
def _(_: Path) -> str:
    once = single()
    twice = sp.csr_matrix((np.repeat(once.data, 2), np.repeat(once.indices, 2), 2 * once.indptr), (N, G))
    as_counts(twice, 2 * COUNTS)
    assert twice.nnz == 2 * once.nnz  # the caller's matrix is as it was
    return "added up"


@case("outside-index")
def _(_: Path) -> str:
    adata = cells(single())
    adata.X.indices[-1] = G + 5
    return refusal(DataError, lambda: c2s.encode(adata))


@case("no-x")
def _(_: Path) -> str:
    adata = ad.AnnData(var=pd.DataFrame(index=GENES), layers={"counts": COUNTS})
    ranked_as(COUNTS, c2s.encode(adata, layer="counts"))
    return refusal(DataError, lambda: c2s.encode(adata))


@case("backed")
def _(folder: Path) -> str:
    backed = ad.read_h5ad(file_of(cells(single()), folder / "cells.h5ad"), backed="r")
    try:
        ranked_as(COUNTS, c2s.encode(backed))
    finally:
        backed.file.close()
    return "read into memory"


CASES.update(
    {
        "negative": lambda _: refused((COUNTS - COUNTS.mean(axis=0)) / (COUNTS.std(axis=0) + 1)),
        "all-zero": lambda _: refused(0 * COUNTS),
        "no-cells": lambda _: refused(COUNTS[:0]),
        "no-genes": lambda _: refused(COUNTS[:, :0]),
        "text-values": lambda _: refused(COUNTS.astype(str).astype(object)),
        "complex": lambda _: refused(COUNTS.astype(complex)),
        "bool": lambda _: as_counts(COUNTS > 0, (COUNTS > 0).astype(int)),
        "unsigned": lambda _: as_counts(COUNTS.astype(np.uint8)),
        "large-counts": lambda _: as_counts(COUNTS * np.int64(2**31), COUNTS * 2**31),
        "half": lambda _: as_counts(COUNTS.astype(np.float16)),
        "beyond-single": lambda _: refused(changed(1e39, "float64")),
        "csc": lambda _: as_counts(sp.csc_matrix(single())),
        "dense": lambda _: as_counts(COUNTS),
    }
)

# Genes


@case("repeated-genes-sum")
def _(_: Path) -> str:
    added = COUNTS[:, 1:].copy()
    added[:, 0] += COUNTS[:, 0]
    found = c2s.encode(cells(genes=["GENE1", *GENES[1:]]), on_collision="sum")
    assert list(found.vocabulary.symbols) == GENES[1:]
    ranked_as(added, found)
    return "added up"


@case("sum-logarithms")
def _(_: Path) -> str:
    adata = cells(SCALES["log1p"], genes=["GENE1", *GENES[1:]])
    return refusal(DataError, lambda: c2s.encode(adata, on_collision="sum"))


@case("case-twins")
def _(_: Path) -> str:
    adata = cells(genes=["gene1", *GENES[1:]])
    ranked_as(COUNTS, c2s.encode(adata))
    return warning(lambda: c2s.encode(adata))


MOUSE = [f"Gene{i}" for i in range(G)]


@case("unnamed-gene")
def _(_: Path) -> str:
    adata = ad.AnnData(COUNTS, var=pd.DataFrame(index=[*GENES[1:], None]))
    return refusal(DataError, lambda: c2s.encode(adata))


@case("space-within")
def _(_: Path) -> str:
    found = c2s.encode(cells(genes=["GENE 0", *GENES[1:]]))
    ranked_as(COUNTS, found)
    assert c2s.write_texts(found, delimiter="\t")[0].as_py().split("\t") == found.genes(0)
    return refusal(DataError, lambda: c2s.write_texts(found))


@case("few-shared")
def _(_: Path) -> str:
    vocabulary = GeneVocabulary.from_symbols([*GENES[:20], *(f"OTHER{i}" for i in range(40))])
    return refusal(DataError, lambda: c2s.encode(cells(), vocabulary=vocabulary))


@case("ensembl")
def _(_: Path) -> str:
    ids = [f"ENSG{i:011d}" for i in range(G)]
    return refusal(DataError, lambda: c2s.encode(cells(genes=ids), vocabulary=GeneVocabulary.from_symbols(GENES)))


CASES.update(
    {
        "repeated-genes": lambda _: refusal(DataError, lambda: c2s.encode(cells(genes=["GENE1", *GENES[1:]]))),
        "two-species": lambda _: refusal(DataError, lambda: c2s.encode(cells(genes=GENES[:30] + MOUSE[30:]))),
        "blank-gene": lambda _: refusal(DataError, lambda: c2s.encode(cells(genes=["", *GENES[1:]]))),
        "space-around": lambda _: refusal(DataError, lambda: c2s.encode(cells(genes=["GENE0 ", *GENES[1:]]))),
        "other-species": lambda _: refusal(
            DataError, lambda: c2s.encode(cells(genes=MOUSE), vocabulary=GeneVocabulary.from_symbols(GENES))
        ),
    }
)

# Cells


@case("repeated-cells")
def _(_: Path) -> str:
    adata = cells()
    adata.obs_names = ["c0", "c0", *adata.obs_names[2:]]
    return refusal(DataError, lambda: c2s.encode(adata))


@case("unnamed-cell")
def _(_: Path) -> str:
    adata = ad.AnnData(COUNTS, obs=pd.DataFrame(index=[None, *map(str, range(1, N))]))
    return refusal(DataError, lambda: c2s.encode(adata))


CASES.update(
    {
        "not-anndata": lambda _: refusal(DataError, lambda: c2s.encode(COUNTS)),
    }
)
