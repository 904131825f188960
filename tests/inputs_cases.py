"""Every input of docs/guide/inputs.md, by the id of its row: what c2s says to it, or the word for how it is handled."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.cells.normalise import to_log1p_cp10k
from c2s.cells.reading import read_cells
from c2s.cli import main
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.sentences.background import Background
from c2s.sentences.decode import RankDecoder
from c2s.sentences.stream import encode_file

N, G = 20, 60
GENES = [f"GENE{i}" for i in range(G)]
COUNTS = np.random.default_rng(0).poisson(np.random.default_rng(1).gamma(0.5, 4.0, size=(N, G)))


class Message(str):
    """The text of an error or of a warning; any other string names how the input is handled."""


Case = Callable[[Path], str]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a case under the id of its row."""

    def add(function: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = function
        return function

    return add


def cells(values: object = COUNTS, genes: list[str] | None = None, **parts: object) -> ad.AnnData:
    """Return cells of ``values``, which become float32 counts where nothing else is passed."""
    matrix = COUNTS.astype(np.float32) if values is COUNTS else values
    adata = ad.AnnData(matrix, obs=pd.DataFrame(index=[f"c{i}" for i in range(matrix.shape[0])]), **parts)
    adata.var_names = (GENES if genes is None else genes)[: adata.n_vars]
    return adata


def file_of(adata: ad.AnnData, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path)
    return path


def refusal(error: type[Exception], call: Callable[[], object]) -> Message:
    """Return the message of the error that ``call`` must raise, of just this class."""
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    return Message(caught.value)


def warning(call: Callable[[], object]) -> Message:
    """Return the one warning that ``call`` must log."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("c2s").addHandler(handler)
    try:
        call()
    finally:
        logging.getLogger("c2s").removeHandler(handler)
    assert len(records) == 1, records
    return Message(records[0])


def refused(values: object, **settings: object) -> Message:
    return refusal(DataError, lambda: c2s.encode(cells(values), **settings))


def ranked_as(counts: np.ndarray, sentences: c2s.CellSentences) -> None:
    """Assert that the sentences are those of dense whole ``counts`` of the same genes, ties by the rarer gene."""
    detection = (counts > 0).mean(axis=0)
    for i, row in enumerate(counts):
        expected = sorted(np.flatnonzero(row), key=lambda gene: (-int(row[gene]), detection[gene], gene))
        assert sentences.row(i).tolist() == expected


def as_counts(values: object, counts: np.ndarray = COUNTS) -> str:
    sentences = c2s.encode(cells(values))
    ranked_as(counts, sentences)
    return sentences.encoding.values


def single() -> sp.csr_matrix:
    return sp.csr_matrix(COUNTS.astype(np.float32))


def changed(value: object, dtype: str = "float32") -> np.ndarray:
    """Return the counts with one of them set to ``value``."""
    values = COUNTS.astype(dtype)
    values[0, 0] = value
    return values


# Matrix


for name, value in (("nan", np.nan), ("infinite", np.inf)):
    CASES[name] = lambda _, value=value: refused(changed(value))


@case("negative")
def _(_: Path) -> str:
    return refused((COUNTS - COUNTS.mean(axis=0)) / (COUNTS.std(axis=0) + 1))


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


@case("all-zero")
def _(_: Path) -> str:
    return refused(0 * COUNTS)


@case("empty-cell")
def _(_: Path) -> str:
    counts = np.where(np.arange(N)[:, None] == 3, 0, COUNTS)
    found = c2s.encode(cells(counts))
    ranked_as(counts, found)
    assert (found.lengths[3], found.n_expressed[3], found.text(3)) == (0, 0, "")
    return "empty sentence"


@case("no-cells")
def _(_: Path) -> str:
    return refused(COUNTS[:0])


@case("no-genes")
def _(_: Path) -> str:
    return refused(COUNTS[:, :0])


@case("text-values")
def _(_: Path) -> str:
    return refused(COUNTS.astype(str).astype(object))


@case("complex")
def _(_: Path) -> str:
    return refused(COUNTS.astype(complex))


@case("bool")
def _(_: Path) -> str:
    return as_counts(COUNTS > 0, (COUNTS > 0).astype(int))


@case("unsigned")
def _(_: Path) -> str:
    return as_counts(COUNTS.astype(np.uint8))


@case("large-counts")
def _(_: Path) -> str:
    return as_counts(COUNTS * np.int64(2**31), COUNTS * 2**31)


@case("half")
def _(_: Path) -> str:
    return as_counts(COUNTS.astype(np.float16))


@case("beyond-single")
def _(_: Path) -> str:
    return refused(changed(1e39, "float64"))


@case("three-dimensional")
def _(folder: Path) -> str:
    adata = cells(layers={"spliced": np.ones((N, G, 2))})
    path = file_of(adata, folder / "cells.h5ad")
    refusal(DataError, lambda: encode_file(path, folder / "out", layer="spliced", progress=False))
    return refusal(DataError, lambda: c2s.encode(adata, layer="spliced"))


@case("csc")
def _(_: Path) -> str:
    return as_counts(sp.csc_matrix(single()))


@case("csc-file")
def _(folder: Path) -> str:
    path = file_of(cells(sp.csc_matrix(single())), folder / "cells.h5ad")
    said = warning(lambda: encode_file(path, folder / "out", progress=False))
    ranked_as(COUNTS, c2s.read_sentences(folder / "out"))
    return said


@case("dense")
def _(_: Path) -> str:
    return as_counts(COUNTS)


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


# Genes


@case("repeated-genes")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(cells(genes=["GENE1", *GENES[1:]])))


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


@case("two-species")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(cells(genes=GENES[:30] + MOUSE[30:])))


@case("unnamed-gene")
def _(_: Path) -> str:
    adata = ad.AnnData(COUNTS, var=pd.DataFrame(index=[*GENES[1:], None]))
    return refusal(DataError, lambda: c2s.encode(adata))


@case("blank-gene")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(cells(genes=["", *GENES[1:]])))


@case("space-around")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(cells(genes=["GENE0 ", *GENES[1:]])))


@case("space-within")
def _(_: Path) -> str:
    found = c2s.encode(cells(genes=["GENE 0", *GENES[1:]]))
    ranked_as(COUNTS, found)
    assert c2s.write_texts(found, delimiter="\t")[0].as_py().split("\t") == found.genes(0)
    return refusal(DataError, lambda: c2s.write_texts(found))


@case("other-species")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(cells(genes=MOUSE), vocabulary=GeneVocabulary.from_symbols(GENES)))


@case("few-shared")
def _(_: Path) -> str:
    vocabulary = GeneVocabulary.from_symbols([*GENES[:20], *(f"OTHER{i}" for i in range(40))])
    return refusal(DataError, lambda: c2s.encode(cells(), vocabulary=vocabulary))


@case("ensembl")
def _(_: Path) -> str:
    ids = [f"ENSG{i:011d}" for i in range(G)]
    return refusal(DataError, lambda: c2s.encode(cells(genes=ids), vocabulary=GeneVocabulary.from_symbols(GENES)))


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


@case("not-anndata")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.encode(COUNTS))


# Files


def unread(path: Path) -> Message:
    """Return what both readers of files say, after asserting that the streamed one is refused too."""
    refusal(ArtefactError, lambda: encode_file(path, path.parent / "out", progress=False))
    return refusal(ArtefactError, lambda: read_cells(path))


@case("missing-file")
def _(folder: Path) -> str:
    return unread(folder / "cells.h5ad")


@case("empty-folder")
def _(folder: Path) -> str:
    (folder / "atlas").mkdir()
    return refusal(ArtefactError, lambda: encode_file(folder / "atlas", folder / "out", progress=False))


@case("other-suffix")
def _(folder: Path) -> str:
    (folder / "cells.csv").write_text("cell,GENE0\nc0,1\n")
    return unread(folder / "cells.csv")


@case("truncated-file")
def _(folder: Path) -> str:
    path = file_of(cells(single()), folder / "cells.h5ad")
    path.write_bytes(path.read_bytes()[:5000])
    return unread(path)


@case("text-file")
def _(folder: Path) -> str:
    (folder / "cells.h5ad").write_text("no HDF5\n")
    return unread(folder / "cells.h5ad")


@case("empty-file")
def _(folder: Path) -> str:
    (folder / "cells.h5ad").touch()
    return unread(folder / "cells.h5ad")


@case("no-permission")
def _(folder: Path) -> str:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = file_of(cells(single()), folder / "closed" / "cells.h5ad")
    path.chmod(0)
    said = unread(path)
    path.parent.chmod(0)  # now not even its existence can be told
    try:
        unread(path)
        refusal(ArtefactError, lambda: encode_file(path.parent, folder / "out", progress=False))
        refusal(ArtefactError, lambda: c2s.read_sentences(path.parent))
        refusal(ArtefactError, lambda: RankDecoder.read(path.parent))
    finally:
        path.parent.chmod(0o700)
    return said


@case("text-in-file")
def _(folder: Path) -> str:
    path = file_of(cells(COUNTS.astype(str).astype(object)), folder / "cells.h5ad")
    return refusal(DataError, lambda: encode_file(path, folder / "out", progress=False))


@case("other-genes")
def _(folder: Path) -> str:
    file_of(cells(), folder / "atlas" / "a.h5ad")
    file_of(cells(COUNTS[:, 1:], genes=GENES[1:]), folder / "atlas" / "b.h5ad")
    return refusal(DataError, lambda: encode_file(folder / "atlas", folder / "out", progress=False))


@case("shared-cells")
def _(folder: Path) -> str:
    file_of(cells(), folder / "atlas" / "a.h5ad")
    file_of(cells(), folder / "atlas" / "b.h5ad")
    encode_file(folder / "atlas", folder / "out", progress=False)
    found = c2s.read_sentences(folder / "out")
    assert list(found.obs.index) == [f"c{i}-{file}" for file in "ab" for i in range(N)]
    ranked_as(np.vstack([COUNTS, COUNTS]), found)
    return "name of its file"


@case("missing-layer")
def _(folder: Path) -> str:
    adata = cells(layers={"counts": COUNTS})
    path = file_of(adata, folder / "cells.h5ad")
    refusal(DataError, lambda: encode_file(path, folder / "out", layer="spliced", progress=False))
    return refusal(DataError, lambda: c2s.encode(adata, layer="spliced"))


@case("missing-raw")
def _(folder: Path) -> str:
    path = file_of(cells(), folder / "cells.h5ad")
    refusal(DataError, lambda: encode_file(path, folder / "out", layer="raw", progress=False))
    return refusal(DataError, lambda: c2s.encode(cells(), layer="raw"))


# Settings


def unset(**settings: object) -> Message:
    return refusal(ConfigError, lambda: c2s.encode(cells(), **settings))


@case("n-genes-zero")
def _(_: Path) -> str:
    return unset(n_genes=0)


@case("n-genes-fraction")
def _(_: Path) -> str:
    return unset(n_genes=0.5)


@case("unknown-ties")
def _(_: Path) -> str:
    return unset(ties="random")


@case("background-and-hash")
def _(_: Path) -> str:
    return unset(ties="hash", background=Background.fit(cells()))


@case("background-path")
def _(_: Path) -> str:
    return unset(background="corpus")


@case("foreign-background")
def _(_: Path) -> str:
    other = Background.fit(cells(genes=[f"OTHER{i}" for i in range(G)]))
    return refusal(DataError, lambda: c2s.encode(cells(), background=other))


@case("vocabulary-list")
def _(_: Path) -> str:
    return unset(vocabulary=GENES)


@case("negative-seed")
def _(_: Path) -> str:
    one, other = (c2s.encode(cells(), ties="hash", seed=seed) for seed in (-1, 0))
    assert not np.array_equal(one.ids, other.ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2s.sentences.decode.MAX_FIT_ENTRIES", 300)  # fewer than the cells have: some are drawn
        drawn = [RankDecoder.fit(cells(), ties="hash", seed=-1) for _ in range(2)]
    assert 0 < drawn[0].n_cells == drawn[1].n_cells < N
    return "as any other seed"


# Outputs


@case("output-not-empty")
def _(folder: Path) -> str:
    path = file_of(cells(), folder / "cells.h5ad")
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return refusal(ArtefactError, lambda: encode_file(path, folder / "out", progress=False))


@case("output-foreign")
def _(folder: Path) -> str:
    path = file_of(cells(), folder / "cells.h5ad")
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    said = refusal(ArtefactError, lambda: encode_file(path, folder / "out", overwrite=True, progress=False))
    assert (folder / "out" / "notes.txt").read_text() == "mine"
    return said


@case("output-is-input")
def _(folder: Path) -> str:
    out = c2s.encode(cells()).write(folder / "out")
    path = file_of(cells(), out / "cells.h5ad")
    ran = CliRunner().invoke(main.app, ["encode", str(path), str(out), "--overwrite"])
    assert isinstance(ran.exception, ArtefactError)
    said = refusal(ArtefactError, lambda: encode_file(path, out, overwrite=True, progress=False))
    assert path.is_file()
    return said


@case("disk-full")
def _(folder: Path) -> str:
    path = file_of(cells(single()), folder / "cells.h5ad")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
        said = refusal(ArtefactError, lambda: encode_file(path, folder / "out", progress=False))
    assert [left.name for left in folder.iterdir() if left.is_dir()] == []
    return said


# Corpora


def corpus(folder: Path) -> Path:
    return c2s.encode(cells()).write(folder / "corpus")


def unopened(folder: Path, error: type[Exception] = ArtefactError) -> Message:
    """Return what reading says, after asserting that mapping is refused too."""
    refusal(error, lambda: c2s.read_sentences(folder, memory_map=True))
    return refusal(error, lambda: c2s.read_sentences(folder))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@case("not-a-corpus")
def _(folder: Path) -> str:
    return unopened(folder)


@case("truncated-record")
def _(folder: Path) -> str:
    record = corpus(folder) / "corpus.json"
    record.write_text(record.read_text()[:100])
    return unopened(folder / "corpus")


@case("truncated-shard")
def _(folder: Path) -> str:
    shard = corpus(folder) / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    return unopened(folder / "corpus")


@case("missing-shards")
def _(folder: Path) -> str:
    (corpus(folder) / "part-00000.parquet").unlink()
    return unopened(folder / "corpus")


@case("missing-shard")
def _(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2s.sentences.parquet.MAX_ROWS", N // 2)
        corpus(folder)
    (folder / "corpus" / "part-00001.parquet").unlink()
    return unopened(folder / "corpus")


@case("later-corpus")
def _(folder: Path) -> str:
    edit(corpus(folder) / "corpus.json", version=99)
    return unopened(folder / "corpus")


@case("foreign-ids")
def _(folder: Path) -> str:
    vocabulary = {"symbols": GENES[:10], "species": "human"}
    edit(corpus(folder) / "corpus.json", vocabulary=vocabulary, background=None)
    return unopened(folder / "corpus", DataError)


@case("column-lost")
def _(folder: Path) -> str:
    shard = corpus(folder) / "part-00000.parquet"
    pq.write_table(pq.read_table(shard).drop(["ids"]), shard)
    return unopened(folder / "corpus")


# Text


WORDS = GeneVocabulary.from_symbols(["CD4", "CD8A", "B2M"])


def read(text: str) -> tuple[list[str], list[int]]:
    found = c2s.read_texts([text], WORDS)
    return found.genes(0), found.obs[["n_words", "n_unknown", "n_repeated"]].iloc[0].tolist()


@case("missing-text")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.read_texts(["CD4", None], WORDS))


@case("one-text")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.read_texts("CD4 B2M", WORDS))


@case("no-text")
def _(_: Path) -> str:
    return refusal(DataError, lambda: c2s.read_texts([["CD4", "B2M"]], WORDS))


@case("empty-text")
def _(_: Path) -> str:
    assert read("") == ([], [0, 0, 0])
    return "empty sentence"


@case("unknown-words")
def _(_: Path) -> str:
    assert read("B2M cell cd4 CD4") == (["B2M", "CD4"], [4, 2, 0])
    return "n_unknown"


@case("repeated-words")
def _(_: Path) -> str:
    assert read("B2M CD4 B2M CD8A B2M") == (["B2M", "CD4", "CD8A"], [5, 0, 2])
    return "n_repeated"


@case("full-stop")
def _(_: Path) -> str:
    assert read("B2M CD4.") == (["B2M", "CD4"], [2, 0, 0])
    return "ignored"


# Decoders


def decoder(folder: Path) -> Path:
    return RankDecoder.fit(cells()).write(folder / "decoder")


@case("no-decoder")
def _(folder: Path) -> str:
    return refusal(ArtefactError, lambda: RankDecoder.read(folder))


@case("truncated-decoder")
def _(folder: Path) -> str:
    arrays = decoder(folder) / "genes.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:40])
    return refusal(ArtefactError, lambda: RankDecoder.read(folder / "decoder"))


@case("older-decoder")
def _(folder: Path) -> str:
    edit(decoder(folder) / "decoder.json", version=1)
    return refusal(ArtefactError, lambda: RankDecoder.read(folder / "decoder"))


@case("later-decoder")
def _(folder: Path) -> str:
    edit(decoder(folder) / "decoder.json", version=99)
    return refusal(ArtefactError, lambda: RankDecoder.read(folder / "decoder"))


@case("foreign-sentences")
def _(_: Path) -> str:
    sentences = c2s.encode(cells(genes=[f"OTHER{i}" for i in range(G)]))
    return refusal(ModelError, lambda: RankDecoder.fit(cells()).decode(sentences))


@case("scaled-training")
def _(_: Path) -> str:
    values = (COUNTS / COUNTS.max(axis=0).clip(1)).astype(np.float32)
    return refusal(DataError, lambda: RankDecoder.fit(cells(values)))


@case("one-gene-cells")
def _(_: Path) -> str:
    return refusal(DataError, lambda: RankDecoder.fit(cells(np.eye(N, G, dtype=np.float32))))
