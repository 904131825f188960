"""Matrices: what they hold and what holds them."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.cells.reading import expression
from c2s.errors import ArtefactError, DataError
from tests.inputs.box import COUNTS, GENES, Box, case, cells, texts


def with_value(value, dtype=np.float32):
    values = COUNTS.astype(dtype)
    values[3, 2] = value
    return values


def cp10k(values=COUNTS, total=1e4):
    return (values * (total / values.sum(axis=1, keepdims=True))).astype(np.float32)


@case("nan")
def _(box):
    return [
        *box.both(DataError, cells(with_value(np.nan))),
        *box.both(DataError, cells(sp.csr_matrix(with_value(np.nan)))),
    ]


@case("infinite")
def _(box):
    return [*box.both(DataError, cells(with_value(np.inf))), *box.both(DataError, cells(with_value(-np.inf)))]


@case("negative")
def _(box):
    centred = cells(COUNTS - 1.5)
    centred.raw = cells()
    return box.both(DataError, centred)


def found(box: Box, values, scale: str) -> list[str]:
    adata = cells(values)
    assert c2s.encode(adata).encoding.values == scale
    box.taken(adata)
    return [box.said("encode", box.file(adata), box.path())]


@case("counts")
def _(box):
    return found(box, COUNTS, "counts")


@case("log1p")
def _(box):
    return found(box, np.log1p(cp10k()), "log1p")


@case("log2")
def _(box):
    return found(box, np.log2(1 + cp10k()), "log2")


@case("log10")
def _(box):
    return found(box, np.log10(1 + cp10k()), "log10")


@case("square-root")
def _(box):
    return found(box, np.sqrt(COUNTS), "sqrt")


@case("normalised")
def _(box):
    return found(box, cp10k(), "normalised")


@case("corrected")
def _(box):
    adata = cells(COUNTS * np.linspace(40.0, 40.7, 8))
    assert c2s.encode(adata).encoding.values == "linear"
    return [box.said("encode", box.file(adata), box.path())]


@case("rounded-logs")
def _(box):
    assert c2s.encode(cells(np.round(np.log1p(cp10k()), 3))).encoding.values == "log1p"
    return []


@case("unknown-base")
def _(box):
    adata = cells(np.log1p(COUNTS * np.linspace(1.0, 1.7, 8)) * 1.3)
    assert c2s.encode(adata).encoding.values == "log"
    warned = box.warned(c2s.RankDecoder.fit, adata)
    assert "they are taken for natural log1p CP10k" in warned
    return [warned, box.said("encode", box.file(adata), box.path())]


@case("scaled")
def _(box):
    values = np.log1p(cp10k())
    adata = cells(values / values.max(axis=0))
    file = box.file(adata)
    return [
        box.warned(c2s.encode, adata),
        box.said("encode", file, box.path()),
        box.refused(DataError, c2s.RankDecoder.fit, adata),
    ]


@case("mixed-scales")
def _(box):
    adata = cells(np.vstack([COUNTS, np.log2(1 + cp10k())]))
    return [box.warned(c2s.encode, adata), box.refused(DataError, c2s.RankDecoder.fit, adata)]


@case("all-zero")
def _(box):
    return box.both(DataError, cells(COUNTS * 0))


@case("empty-cells")
def _(box):
    values = COUNTS.copy()
    values[[0, 5]] = 0
    adata = cells(values)
    sentences = c2s.encode(adata)
    assert (sentences.text(0), sentences.n_expressed[5]) == ("", 0)
    box.taken(adata, adata)
    return []


@case("no-cells")
def _(box):
    return box.both(DataError, cells(COUNTS[:0]))


@case("no-genes")
def _(box):
    return box.both(DataError, cells(COUNTS[:, :0]))


@case("no-numbers")
def _(box):
    kinds = [COUNTS.astype(str), COUNTS.astype(complex)]
    return [*(message for kind in kinds for message in box.both(DataError, cells(kind))),
            box.refused(DataError, c2s.encode, cells(COUNTS.astype(object)))]  # fmt: skip


@case("boolean")
def _(box):
    box.taken(cells(COUNTS > 1), cells((COUNTS > 1).astype(int)))
    return []


@case("whole-types")
def _(box):
    for kind in (np.int8, np.uint8, np.uint16, np.uint32, np.int64, np.uint64):
        box.taken(cells(COUNTS.astype(kind)), disk=kind is np.uint64)
    return []


@case("float-types")
def _(box):
    for kind in (np.float16, np.float64, np.longdouble):
        box.taken(cells(COUNTS.astype(kind)), disk=kind is np.float16)
    return []


@case("huge-counts")
def _(box):
    for value, kind in ((2**31 + 5, np.int64), (2**63 + 5, np.uint64)):
        assert c2s.encode(cells(with_value(value, kind))).genes(3)[0] == GENES[2]
    close = cells(np.array([[2**40, 2**40 + 1, 1]]))
    assert c2s.encode(close, ties="vocabulary").genes(0) == [GENES[1], GENES[0], GENES[2]]
    return []


@case("huge-fractions")
def _(box):
    return box.both(DataError, cells(with_value(1e300, np.float64)))


@case("tiny-fractions")
def _(box):
    box.taken(cells(with_value(1e-300, np.float64)), cells(with_value(0)))
    return []


@case("three-dimensional")
def _(box):
    adata = cells()
    adata.layers["deep"] = np.ones((*COUNTS.shape, 2))
    with pytest.raises(ValueError, match="2-dimensional"):
        cells(np.ones((*COUNTS.shape, 2)))
    return box.both(DataError, adata, layer="deep")


@case("csc")
def _(box):
    adata = cells(sp.csc_matrix(COUNTS))
    box.taken(adata, disk=False)
    box.taken(c2s.read_cells(box.file(adata)), disk=False)
    return []


@case("dense")
def _(box):
    box.taken(cells(np.asfortranarray(COUNTS)))
    return []


@case("messy-sparse")
def _(box):
    matrix = sp.csr_matrix(COUNTS)
    row = slice(matrix.indptr[2], matrix.indptr[3])
    matrix.indices[row], matrix.data[row] = matrix.indices[row][::-1].copy(), matrix.data[row][::-1].copy()
    twice = np.repeat(np.arange(matrix.nnz), 1 + (np.arange(matrix.nnz) == 0))  # the first entry in two parts
    data = matrix.data[twice].astype(np.float32)
    data[:2] = matrix.data[0] - 0.5, 0.5
    messy = sp.csr_matrix(
        (data, matrix.indices[twice], matrix.indptr + (np.arange(len(matrix.indptr)) > 0)), COUNTS.shape
    )
    absent = int(np.flatnonzero(COUNTS[-1] == 0)[0]) if (COUNTS[-1] == 0).any() else None
    if absent is not None:
        messy = sp.csr_matrix(
            (np.append(messy.data, 0), np.append(messy.indices, absent), np.append(messy.indptr[:-1], messy.nnz + 1)),
            COUNTS.shape,
        )
    before = messy.data.copy()
    box.taken(cells(messy))
    np.testing.assert_array_equal(messy.data, before)
    return []


@case("masked")
def _(box):
    adata = cells()
    adata.layers["filled"] = np.ma.masked_array(COUNTS, mask=np.zeros_like(COUNTS))
    assert texts(c2s.encode(adata, layer="filled")) == texts(c2s.encode(cells()))
    return [box.refused(DataError, c2s.encode, cells(np.ma.masked_array(COUNTS, mask=COUNTS > 4)))]


@case("dask")
def _(box):
    arrays = pytest.importorskip("dask.array")
    lazy = arrays.from_array(COUNTS, chunks=(5, 8))
    for values in (lazy, lazy.map_blocks(sp.csr_matrix)):
        box.taken(cells(values), disk=False)
    return []


@case("backed")
def _(box):
    import anndata as ad

    for values in (COUNTS, sp.csr_matrix(COUNTS)):
        backed = ad.read_h5ad(box.file(cells(values)), backed="r")
        box.taken(backed, disk=False)
        assert texts(c2s.encode(backed[2:5], background=c2s.Background.fit(cells()))) == texts(c2s.encode(cells()))[2:5]
        backed.file.close()
    return []


@case("coo")
def _(box):
    with pytest.raises(ValueError, match="Only CSR and CSC matrices are supported"):
        cells(sp.coo_matrix(COUNTS))
    return ["Only CSR and CSC matrices are supported"]


@case("matrix-and-frame")
def _(box):
    import anndata as ad

    box.taken(cells(np.matrix(COUNTS)))
    names = [f"c{i}" for i in range(len(COUNTS))]
    box.taken(ad.AnnData(pd.DataFrame(COUNTS, index=names, columns=GENES)))
    return []


@case("damaged-index")
def _(box):
    messages = []
    for part, place, value in (("indices", 3, 10**6), ("indices", 3, -2), ("indptr", 4, 10**6), ("indptr", 0, 3)):
        file = box.file(cells(sp.csr_matrix(COUNTS)))
        with h5py.File(file, "a") as store:
            values = store[f"X/{part}"][:]
            values[place] = value
            store[f"X/{part}"][...] = values
        messages.append(box.refused(DataError, expression, c2s.read_cells(file)))
        messages.append(box.refused((DataError, ArtefactError), c2s.encode_file, file, box.path(), progress=False))
    return messages


@case("not-anndata")
def _(box):
    return [box.refused(DataError, c2s.encode, wrong) for wrong in ("cells.h5ad", COUNTS, pd.DataFrame(COUNTS))] + [
        box.refused(DataError, c2s.RankDecoder.fit, COUNTS), box.refused(DataError, c2s.Background.fit, "cells.h5ad")
    ]  # fmt: skip
