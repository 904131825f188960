"""Cases of corpora, texts and decoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, DataError, ModelError
from c2s.sentences.decode import RankDecoder
from tests.inputs.registry import (
    CASES,
    COUNTS,
    GENES,
    G,
    Message,
    N,
    case,
    cells,
    refusal,
)

# Corpora


def corpus(folder: Path) -> Path:
    return c2s.encode(cells()).write(folder / "corpus")


def unopened(folder: Path, error: type[Exception] = ArtefactError) -> Message:
    """Return what reading says, after asserting that mapping is refused too."""
    refusal(error, lambda: c2s.read_sentences(folder, memory_map=True))
    return refusal(error, lambda: c2s.read_sentences(folder))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


CASES["not-a-corpus"] = lambda folder: unopened(folder)

# Text


WORDS = GeneVocabulary.from_symbols(["CD4", "CD8A", "B2M"])


def read(text: str) -> tuple[list[str], list[int]]:
    found = c2s.read_texts([text], WORDS)
    return found.genes(0), found.obs[["n_words", "n_unknown", "n_repeated"]].iloc[0].tolist()


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


CASES.update(
    {
        "missing-text": lambda _: refusal(DataError, lambda: c2s.read_texts(["CD4", None], WORDS)),
        "one-text": lambda _: refusal(DataError, lambda: c2s.read_texts("CD4 B2M", WORDS)),
        "no-text": lambda _: refusal(DataError, lambda: c2s.read_texts([["CD4", "B2M"]], WORDS)),
    }
)

# Decoders


def decoder(folder: Path) -> Path:
    return RankDecoder.fit(cells()).write(folder / "decoder")


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


CASES.update(
    {
        "no-decoder": lambda folder: refusal(ArtefactError, lambda: RankDecoder.read(folder)),
        "one-gene-cells": lambda _: refusal(DataError, lambda: RankDecoder.fit(cells(np.eye(N, G, dtype=np.float32)))),
    }
)
