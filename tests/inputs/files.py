"""Files and folders that are read, settings, and places that are written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.cli import main
from c2s.errors import ArtefactError, ConfigError, DataError
from tests.inputs.box import COUNTS, Box, case, cells


def both(box: Box, path, error=ArtefactError, **settings) -> list[str]:
    """Return what reading a path whole and block by block says."""
    return [
        box.refused(error, c2s.read_cells, path),
        box.refused(error, c2s.encode_file, path, box.path(), progress=False, **settings),
    ]


def streamed(box: Box, path, error=ArtefactError, **settings) -> str:
    return box.refused(error, c2s.encode_file, path, box.path(), progress=False, **settings)


@case("file-missing")
def _(box):
    return both(box, box.path(".h5ad"))


@case("file-truncated")
def _(box):
    content, messages = box.file().read_bytes(), []
    for share in (0.02, 0.5, 0.99):
        cut = box.path(".h5ad")
        cut.write_bytes(content[: int(share * len(content))])
        messages += both(box, cut)
    return messages


@case("file-other-format")
def _(box):
    table = box.path(".csv")
    table.write_text("a,b")
    return both(box, table)


@case("file-text")
def _(box):
    text = box.path(".h5ad")
    text.write_text("cells")
    empty = box.path(".h5ad")
    empty.write_bytes(b"")
    return [*both(box, text), *both(box, empty)]


@case("file-other-hdf5")
def _(box):
    messages = []
    for name in ("X", "matrix"):
        file = box.path(".h5ad")
        with h5py.File(file, "w") as store:
            store[name] = COUNTS
        messages += both(box, file)
    return messages


@case("file-shape")
def _(box):
    file = box.file(cells(sp.csr_matrix(COUNTS)))
    with h5py.File(file, "a") as store:
        store["X"].attrs["shape"] = [12, 99]
    return both(box, file)


@case("file-no-permission")
def _(box):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    file = box.file()
    box.patch.setattr("h5py.File", refuse)  # a mode of 000 does not stop root
    return both(box, file)


@case("folder-closed")
def _(box):
    stat, closed = Path.stat, box.path()
    inside = [closed / "cells.h5ad", closed]

    def refuse(path, **settings):
        if path in inside or path.parent in inside:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", refuse)  # as of a folder of mode 000, which does not stop root
        readers = (c2s.read_sentences, c2s.RankDecoder.read)
        return [
            *(message for path in inside for message in both(box, path)),
            *(box.refused(ArtefactError, read, closed) for read in readers),
        ]


@case("folder-without-cells")
def _(box):
    folder = box.path()
    folder.mkdir()
    return [streamed(box, folder)]


@case("folder-to-read-cells")
def _(box):
    folder = box.path()
    folder.mkdir()
    return [box.refused(ArtefactError, c2s.read_cells, folder)]


@case("folder-named-file")
def _(box):
    folder, file = box.path(".h5ad"), box.path(".zarr")
    folder.mkdir()
    file.write_text("")
    return [streamed(box, folder), streamed(box, file)]


@case("folder-other-genes")
def _(box):
    messages = []
    for number, other in enumerate((cells()[:, :5].copy(), cells()[:, ::-1].copy())):
        folder = box.path()
        folder.mkdir()
        cells().write_h5ad(folder / "a.h5ad")
        other.write_h5ad(folder / f"b{number}.h5ad")
        messages.append(streamed(box, folder, DataError))
    return messages


@case("folder-with-damaged-file")
def _(box):
    folder = box.path()
    folder.mkdir()
    cells().write_h5ad(folder / "a.h5ad")
    (folder / "b.h5ad").write_text("")
    return [streamed(box, folder)]


@case("no-x")
def _(box):
    import anndata as ad

    adata = ad.AnnData(obs=cells().obs, var=cells().var, layers={"counts": COUNTS})
    return box.both(DataError, adata)


@case("no-layer")
def _(box):
    adata = cells()
    adata.layers["counts"] = COUNTS
    return box.both(DataError, adata, layer="count")


@case("no-raw")
def _(box):
    return box.both(DataError, cells(), layer="raw")


@case("genes-zero")
def _(box):
    return [*box.both(ConfigError, cells(), n_genes=0), *box.both(ConfigError, cells(), n_genes=-3)]


@case("no-whole-number")
def _(box):
    return [
        message
        for settings in ({"n_genes": 2.5}, {"n_genes": "200"}, {"n_genes": True}, {"seed": "x", "ties": "hash"})
        for message in box.both(ConfigError, cells(), **settings)
    ]


@case("negative-seed")
def _(box):
    one, same, other = (c2s.encode(cells(), ties="hash", seed=seed) for seed in (-1, -1, 0))
    assert one.ids.tolist() == same.ids.tolist() != other.ids.tolist()
    box.patch.setattr("c2s.sentences.decode.MAX_FIT_ENTRIES", 40)  # so that cells are drawn
    drawn = [c2s.RankDecoder.fit(cells(), ties="hash", seed=-1) for _ in range(2)]
    assert 0 < drawn[0].n_cells == drawn[1].n_cells < len(COUNTS)
    return []


@case("unknown-ties")
def _(box):
    return box.both(ConfigError, cells(), ties="random")


@case("background-other-ties")
def _(box):
    return box.both(ConfigError, cells(), ties="hash", background=c2s.Background.fit(cells()))


@case("background-other-genes")
def _(box):
    other = c2s.Background(GeneVocabulary(("CD4", "X", "Y")), np.array([0.1, 0.2, 0.3]), 9)
    return box.both(DataError, cells(), background=other)


@case("background-type")
def _(box):
    return box.both(ConfigError, cells(), background="corpus")


@case("background-none")
def _(box):
    empty = box.path(".json")
    empty.write_text("{}")
    return [box.refused(ArtefactError, c2s.Background.read, place) for place in (empty, box.corpus(ties="hash"))]


@case("vocabulary-type")
def _(box):
    return [
        *box.both(ConfigError, cells(), vocabulary=["CD4", "B2M"]),
        box.refused(ConfigError, c2s.read_texts, ["CD4"], ["CD4", "B2M"]),
    ]


@case("unknown-collision")
def _(box):
    return box.both(ConfigError, cells(), on_collision="mean")


@case("output-not-empty")
def _(box):
    return [streamed_to(box, box.corpus())]


def streamed_to(box: Box, out, **settings) -> str:
    return box.refused(ArtefactError, c2s.encode_file, box.file(), out, progress=False, **settings)


@case("output-not-ours")
def _(box):
    folder = box.path()
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    message = streamed_to(box, folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "mine"
    return [message]


@case("output-is-file")
def _(box):
    return [streamed_to(box, box.file(), overwrite=True)]


@case("output-below-file")
def _(box):
    return [streamed_to(box, box.file() / "out")]


@case("output-read-only")
def _(box):
    box.patch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    return [streamed_to(box, box.path())]


@case("output-no-room")
def _(box):
    box.patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    return [streamed_to(box, box.path())]


@case("output-disk-full")
def _(box):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    box.patch.setattr("c2s.sentences.stream.write_json", full)
    said: list[str] = []
    box.patch.setattr("typer.echo", lambda message, err=False: said.append(message) if err else None)
    try:
        main.run(["encode", str(box.file()), str(box.path())])
    except SystemExit as stopped:
        assert stopped.code == 2
    return said


@case("output-holds-input")
def _(box):
    corpus = box.corpus()
    background = ("--background", corpus / "corpus.json", "--overwrite")
    cells().write_h5ad(corpus / "cells.h5ad")
    settings = {"overwrite": True, "progress": False}
    messages = [
        box.refused(ArtefactError, box.said, "encode", box.file(), corpus, *background),
        box.refused(ArtefactError, c2s.encode_file, corpus / "cells.h5ad", corpus, **settings),
    ]
    assert (corpus / "cells.h5ad").is_file()
    return messages


@case("output-in-store")
def _(box):
    store = box.path(".zarr")
    cells().write_zarr(store)
    return [box.refused(ArtefactError, box.said, "encode", store, store / "corpus")]


@case("output-name")
def _(box):
    return [box.refused(ConfigError, box.said, "decode", box.corpus(), box.path(".csv"))]
