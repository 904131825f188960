"""Names of genes and cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError
from tests.inputs.box import COUNTS, GENES, N, case, cells, texts


def named(*first):
    return cells(genes=[*first, *GENES[len(first) :]])


def ensembl(species="", version=""):
    return [f"ENS{species}G00000000{i:03d}{version}" for i in range(len(GENES))]


@case("gene-twice")
def _(box):
    return box.both(DataError, named("CD4", "CD4"))


@case("gene-twice-summed")
def _(box):
    summed = np.hstack([COUNTS[:, :2].sum(axis=1, keepdims=True), COUNTS[:, 2:]])
    box.taken(named("CD4", "CD4"), cells(summed, ["CD4", *GENES[2:]]), on_collision="sum")
    return []


@case("logarithms-summed")
def _(box):
    logs = cells(np.log2(1 + COUNTS), ["CD4", "CD4", *GENES[2:]])
    return box.both(DataError, logs, on_collision="sum")


@case("transposed")
def _(box):
    barcodes = ["".join("ACGT"[(i >> 2 * j) % 4] for j in range(16)) + "-1" for i in range(len(GENES))]
    return box.both(DataError, cells(genes=barcodes))


@case("gene-case")
def _(box):
    adata = named("Actb", "ACTB")
    assert {"Actb", "ACTB"} <= {gene for i in range(N) for gene in c2s.encode(adata).genes(i)}
    return []


@case("two-species")
def _(box):
    human_and_mouse = cells(np.hstack([COUNTS, COUNTS]), [*GENES, *(gene.capitalize() for gene in GENES)])
    ids = cells(genes=[*ensembl()[:4], *ensembl("MUS")[4:]])
    return [*box.both(DataError, human_and_mouse), *box.both(DataError, ids)]


@case("ensembl")
def _(box):
    for genes in (ensembl(), ensembl(version=".7")):
        assert set(c2s.encode(cells(genes=genes)).vocabulary.symbols) == set(genes)
    return []


@case("ensembl-versions")
def _(box):
    return box.both(DataError, cells(genes=ensembl(version=".7")), vocabulary=GeneVocabulary(tuple(ensembl())))


@case("ensembl-and-symbols")
def _(box):
    return box.both(DataError, cells(genes=ensembl()), vocabulary=GeneVocabulary(tuple(GENES)))


@case("gene-empty")
def _(box):
    return [*box.both(DataError, named("")), *box.both(DataError, named("  "))]


@case("gene-missing")
def _(box):
    return [box.refused(DataError, c2s.encode, named(missing)) for missing in (None, np.nan)]


@case("gene-unclean")
def _(box):
    names = (" CD4", "CD4\n", "\ufeffCD4", "CD4\xa0")
    return [message for name in names for message in box.both(DataError, named(name))]


@case("gene-with-space")
def _(box):
    adata = named("CD 4", "CD8,A")
    assert texts(c2s.encode(adata))[0].count("|") == np.count_nonzero(COUNTS[0]) - 1
    return [box.refused(DataError, c2s.write_texts, c2s.encode(adata), delimiter=gap) for gap in (" ", ",")]


@case("wrong-species")
def _(box):
    mouse = GeneVocabulary(tuple(gene.capitalize() for gene in GENES), "mouse")
    return box.both(DataError, cells(), vocabulary=mouse)


@case("species-contradicts")
def _(box):
    return [box.refused(DataError, c2s.encode, cells(), species="mouse")]


@case("under-half")
def _(box):
    return box.both(DataError, cells(), vocabulary=GeneVocabulary(("CD4", "B2M", "X", "Y")))


@case("other-order")
def _(box):
    vocabulary = GeneVocabulary(tuple(GENES[::-1]))
    background = c2s.Background.fit(cells())
    box.taken(cells(), vocabulary=vocabulary, background=background)
    box.taken(cells()[:, ::-1].copy(), background=background)
    return []


@case("cell-twice")
def _(box):
    return box.both(DataError, cells(names=["a", "a", *(f"c{i}" for i in range(2, N))]))


@case("cell-numbers")
def _(box):
    adata = cells(names=list(range(N)))
    assert c2s.encode(adata).obs.index.tolist() == [str(i) for i in range(N)]
    box.taken(adata)
    return []


@case("cell-missing")
def _(box):
    return [
        box.refused(DataError, c2s.encode, cells(names=[missing, *(f"c{i}" for i in range(1, N))]))
        for missing in (None, np.nan)
    ]


@case("obs-mixed")
def _(box):
    adata = cells()
    adata.obs["dose"] = pd.Series([1, "high", *[2] * (N - 2)], index=adata.obs_names, dtype=object)
    folder = box.path()
    folder.mkdir()
    for name, values in (("a", [1] * N), ("b", ["high"] * N)):
        part = cells()
        part.obs["dose"] = values
        part.write_h5ad(folder / f"{name}.h5ad")
    return [
        box.refused(DataError, c2s.encode(adata).write, box.path()),
        box.refused(DataError, c2s.encode_file, folder, box.path(), progress=False),
    ]
