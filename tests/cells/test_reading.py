"""One checked CSR matrix out of whatever AnnData holds, and errors that say what to do."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.cells.reading import expression, read_cells, require_column
from c2s.errors import ArtefactError, ConfigError, DataError

DENSE = np.array([[0, 3, 1, 0], [2, 0, 0, 5], [0, 0, 0, 0]])


def adata_of(values, genes=None):
    n, g = values.shape
    return ad.AnnData(
        values, pd.DataFrame(index=[f"c{i}" for i in range(n)]), pd.DataFrame(index=genes or list("ABCDEFGH"[:g]))
    )


def messy_csr():
    """Unsorted columns, a duplicated entry (1 + 2) and a stored zero, all meaning DENSE."""
    matrix = sp.csr_matrix((3, 4), dtype=np.int64)
    matrix.data = np.array([1, 1, 2, 0, 5, 2])
    matrix.indices = np.array([2, 1, 1, 3, 3, 0], dtype=np.int32)
    matrix.indptr = np.array([0, 4, 6, 6], dtype=np.int32)
    return matrix


@pytest.mark.parametrize(
    "values",
    [
        DENSE,
        DENSE.astype(np.float64),
        DENSE.astype(np.float32),
        DENSE.astype(np.uint8),
        DENSE.astype(np.uint16),
        DENSE.astype(np.int8),
        sp.csr_matrix(DENSE),
        sp.csc_matrix(DENSE),
        sp.csr_array(DENSE),
        sp.csc_array(DENSE.astype(np.float32)),
        messy_csr(),
    ],
    ids=lambda v: f"{type(v).__name__}-{v.dtype}",
)
def test_every_container_gives_the_same_canonical_matrix(values):
    adata = adata_of(values)
    before = adata.X.copy()
    matrix, genes = expression(adata)
    assert genes == list("ABCD")
    assert matrix.format == "csr"
    assert matrix.has_canonical_format
    assert matrix.dtype in (np.int32, np.int64, np.float32)
    assert np.all(matrix.data > 0)
    np.testing.assert_array_equal(matrix.toarray(), DENSE)
    if sp.issparse(before):
        np.testing.assert_array_equal(adata.X.data, before.data)
        np.testing.assert_array_equal(adata.X.indices, before.indices)


def test_bool_is_zero_and_one():
    matrix, _ = expression(adata_of(DENSE > 0))
    np.testing.assert_array_equal(matrix.toarray(), DENSE > 0)
    assert matrix.dtype == np.int32


def test_narrow_duplicates_are_added_without_overflow():
    matrix = sp.csr_matrix((1, 2), dtype=np.uint8)
    matrix.data, matrix.indices, matrix.indptr = (
        np.array([200, 100], np.uint8),
        np.array([1, 1], np.int32),
        np.array([0, 2], np.int32),
    )
    assert expression(adata_of(matrix))[0].toarray().tolist() == [[0, 300]]


def test_layers_and_raw():
    adata = adata_of(DENSE.astype(np.float32))
    adata.raw = adata
    adata.layers["counts"] = DENSE * 2
    adata.layers["scaled"] = DENSE - 1.0
    adata = adata[:, :2].copy()
    np.testing.assert_array_equal(expression(adata, layer="raw")[0].toarray(), DENSE)
    assert expression(adata, layer="raw")[1] == list("ABCD")
    np.testing.assert_array_equal(expression(adata, layer="counts")[0].toarray(), DENSE[:, :2] * 2)
    with pytest.raises(
        DataError, match=r"no layer 'count'; found counts, scaled. Try layer=\"raw\" or layer=\"counts\""
    ):
        expression(adata, layer="count")
    with pytest.raises(
        DataError,
        match=r"layers\['scaled'\] holds negative values \(smallest -1\).*Try layer=\"raw\" or layer=\"counts\"",
    ):
        expression(adata, layer="scaled")


def test_suggestions_name_only_what_is_there():
    with pytest.raises(DataError, match="monotone transform of them$"):
        expression(adata_of(DENSE - 1.5))
    with pytest.raises(DataError, match="smallest -2"):
        expression(adata_of(sp.csr_matrix(DENSE - 2)))
    with pytest.raises(DataError, match=r"adata.raw is None$"):
        expression(adata_of(DENSE), layer="raw")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.zeros((0, 4)), "empty: 0 cells × 4 genes"),
        (np.zeros((3, 0)), "empty: 3 cells × 0 genes"),
        (np.zeros((3, 4)), "nothing but zeros"),
        (sp.csr_matrix((3, 4), dtype=np.float32), "nothing but zeros"),
        (np.where(DENSE == 5, np.nan, DENSE), "1 NaN or infinite"),
        (np.where(DENSE == 5, np.inf, DENSE), "1 NaN or infinite"),
        (np.where(DENSE == 5, np.nan, DENSE - 4.0), "1 NaN or infinite"),
    ],
)
def test_values_that_cannot_be_ranked(values, match):
    with pytest.raises(DataError, match=match):
        expression(adata_of(values))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicated_genes():
    adata = adata_of(DENSE, ["A", "B", "A", "C"])
    with pytest.raises(DataError, match="1 gene symbols occur more than once: A"):
        expression(adata)
    matrix, genes = expression(adata, on_collision="sum")
    assert genes == ["A", "B", "C"]
    np.testing.assert_array_equal(matrix.toarray(), [[1, 3, 0], [2, 0, 5], [0, 0, 0]])
    np.testing.assert_array_equal(adata.X, DENSE)
    with pytest.raises(DataError, match="logarithms .*, which cannot be added up"):
        expression(adata_of(np.log1p(DENSE), ["A", "B", "A", "C"]), on_collision="sum")
    with pytest.raises(ConfigError, match="choose 'error' or 'sum'"):
        expression(adata, on_collision="mean")


def test_aliases_come_before_collisions():
    matrix, genes = expression(adata_of(DENSE), aliases={"C": "A"}, on_collision="sum")
    assert genes == ["A", "B", "D"]
    assert matrix.toarray()[0].tolist() == [1, 3, 0]


def test_backed_files_are_read(tmp_path):
    adata_of(sp.csr_matrix(DENSE)).write_h5ad(tmp_path / "sparse.h5ad")
    adata_of(DENSE).write_h5ad(tmp_path / "dense.h5ad")
    for name in ("sparse", "dense"):
        backed = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
        np.testing.assert_array_equal(expression(backed)[0].toarray(), DENSE)
        backed.file.close()


def test_read_cells(tmp_path):
    path = tmp_path / "cells.h5ad"
    adata_of(sp.csr_matrix(DENSE)).write_h5ad(path)
    np.testing.assert_array_equal(read_cells(path).X.toarray(), DENSE)
    with pytest.raises(ArtefactError, match="no file"):
        read_cells(tmp_path / "absent.h5ad")
    (tmp_path / "cells.csv").write_text("a")
    with pytest.raises(ArtefactError, match=r"cells.csv is not an .h5ad file; convert it"):
        read_cells(tmp_path / "cells.csv")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.4, 0.9])
def test_truncated_files_say_so(tmp_path, keep):
    path = tmp_path / "cells.h5ad"
    big = np.random.default_rng(0).poisson(1.0, (200, 50))
    adata_of(sp.csr_matrix(big), [f"G{i}" for i in range(50)]).write_h5ad(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ArtefactError, match="truncated or not an AnnData file: download or write it again"):
        read_cells(path)


def test_require_column():
    obs = pd.DataFrame({"cell_type": ["B"], "dose": [1]})
    assert require_column(obs, "dose", "dose_key").tolist() == [1]
    with pytest.raises(DataError, match="obs has no column 'drug'; found cell_type, dose. Pass perturbation_key="):
        require_column(obs, "drug", "perturbation_key")
    with pytest.raises(DataError, match="found no columns"):
        require_column(obs[[]], "drug", "perturbation_key")


def test_other_hdf5_files_are_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["X"] = np.ones((2, 2))
        file["X"].attrs["encoding-type"] = "painting"
        file["X"].attrs["encoding-version"] = "9"
    with pytest.raises(ArtefactError, match="not an AnnData file"):
        read_cells(tmp_path / "other.h5ad")


def test_half_precision_is_read_as_single():
    values = np.array([[0, 1.5, 2], [3, 0, 0]], dtype=np.float32)
    half = adata_of(np.zeros((2, 3), np.float32))
    half.layers["half"] = values.astype(np.float16)
    matrix, _ = expression(half, layer="half")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), values)
