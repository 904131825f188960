"""Cases of files read, settings and outputs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import c2s
from c2s.cells.reading import read_cells
from c2s.cli import main
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.sentences.background import Background
from c2s.sentences.decode import RankDecoder
from c2s.sentences.stream import encode_file
from tests.inputs.registry import (
    CASES,
    COUNTS,
    GENES,
    G,
    Message,
    N,
    case,
    cells,
    file_of,
    ranked_as,
    refusal,
    single,
)

# Files


def unread(path: Path) -> Message:
    """Return what both readers of files say, after asserting that the streamed one is refused too."""
    refusal(ArtefactError, lambda: encode_file(path, path.parent / "out", progress=False))
    return refusal(ArtefactError, lambda: read_cells(path))


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


CASES["missing-file"] = lambda folder: unread(folder / "cells.h5ad")

# Settings


def unset(**settings: object) -> Message:
    return refusal(ConfigError, lambda: c2s.encode(cells(), **settings))


@case("foreign-background")
def _(_: Path) -> str:
    other = Background.fit(cells(genes=[f"OTHER{i}" for i in range(G)]))
    return refusal(DataError, lambda: c2s.encode(cells(), background=other))


@case("negative-seed")
def _(_: Path) -> str:
    one, other = (c2s.encode(cells(), ties="hash", seed=seed) for seed in (-1, 0))
    assert not np.array_equal(one.ids, other.ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2s.sentences.decode.MAX_FIT_ENTRIES", 300)  # fewer than the cells have: some are drawn
        drawn = [RankDecoder.fit(cells(), ties="hash", seed=-1) for _ in range(2)]
    assert 0 < drawn[0].n_cells == drawn[1].n_cells < N
    return "as any other seed"


CASES.update(
    {
        "n-genes-zero": lambda _: unset(n_genes=0),
        "n-genes-fraction": lambda _: unset(n_genes=0.5),
        "unknown-ties": lambda _: unset(ties="random"),
        "background-and-hash": lambda _: unset(ties="hash", background=Background.fit(cells())),
        "background-path": lambda _: unset(background="corpus"),
        "vocabulary-list": lambda _: unset(vocabulary=GENES),
    }
)

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
