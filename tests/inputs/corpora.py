"""Corpora, texts and decoders."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

import c2s
from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from tests.inputs.box import GENES, Box, N, case, cells

PART = "part-00000.parquet"
VOCABULARY = GeneVocabulary(tuple(GENES))


def broken(box: Box, folder) -> str:
    return box.refused(ArtefactError, c2s.read_sentences, folder)


def with_record(folder, name="corpus.json", drop=None, **changes):
    record = json.loads((folder / name).read_text()) | changes
    record.pop(drop, None)
    (folder / name).write_text(json.dumps(record))
    return folder


def with_ids(folder, ids):
    table = pq.read_table(folder / PART)
    place = table.column_names.index("ids")
    pq.write_table(table.set_column(place, "ids", ids(table["ids"].to_pylist())), folder / PART)
    return folder


def lists(rows):
    return pa.array(rows, type=pa.list_(pa.int32()))


@case("corpus-none")
def _(box):
    return [broken(box, box.path()), broken(box, box.file())]


@case("shard-truncated")
def _(box):
    messages = []
    for share in (0, 0.5, 0.99):
        folder = box.corpus()
        content = (folder / PART).read_bytes()
        (folder / PART).write_bytes(content[: int(share * len(content))])
        messages.append(broken(box, folder))
    return messages


@case("shards-missing")
def _(box):
    folder = box.corpus()
    (folder / PART).unlink()
    return [broken(box, folder)]


@case("shard-missing")
def _(box):
    more = box.corpus()
    shutil.copy(more / PART, more / "part-00001.parquet")
    return [broken(box, with_record(box.corpus(), n=2 * N)), broken(box, more)]


@case("shard-of-other-genes")
def _(box):
    folder, other = box.corpus(), box.path()
    same_sizes = GeneVocabulary(tuple(f"GENE{i}" for i in range(len(GENES))))
    sentences = c2s.read_sentences(folder)
    foreign = c2s.CellSentences(
        sentences.ids, sentences.offsets, sentences.n_expressed, same_sizes, sentences.obs, sentences.encoding
    )
    shutil.copy(foreign.write(other) / PART, folder / PART)
    return [broken(box, folder)]


@case("ids-beyond")
def _(box):
    return [
        broken(box, with_ids(box.corpus(), lambda rows, value=value: lists([[value, *row[1:]] for row in rows])))
        for value in (99, -1)
    ]


@case("gene-twice-in-sentence")
def _(box):
    folder = with_ids(box.corpus(), lambda rows: lists([rows[0] + rows[0][:1], *rows[1:-1], rows[-1][:-1]]))
    assert "twice in one sentence" in box.refused(DataError, c2s.read_sentences, folder, memory_map=True)
    return [
        broken(box, folder),
        box.refused(DataError, c2s.CellSentences.from_lists, [["CD4"], ["B2M", "CD4", "B2M"]], VOCABULARY),
    ]


@case("ids-foreign")
def _(box):
    def missing(rows):
        return lists([[None, *rows[0][1:]], *rows[1:]])

    return [
        broken(box, with_ids(box.corpus(), missing)),
        broken(box, with_ids(box.corpus(), lambda rows: pa.array(["CD4 B2M"] * len(rows)))),
    ]


@case("corpus-later")
def _(box):
    return [broken(box, with_record(box.corpus(), version=99))]


@case("corpus-json-cut")
def _(box):
    folder = box.corpus()
    (folder / "corpus.json").write_text((folder / "corpus.json").read_text()[:200])
    return [broken(box, folder)]


@case("corpus-json-lacks")
def _(box):
    fields = ("n", "n_ids", "vocabulary", "encoding", "background", "obs_columns")
    return [
        *(broken(box, with_record(box.corpus(), drop=field)) for field in fields),
        broken(box, with_record(box.corpus(), vocabulary=None)),
        broken(box, with_record(box.corpus(), encoding={"colour": 1})),
    ]


@case("corpus-json-other")
def _(box):
    listed = box.corpus()
    (listed / "corpus.json").write_text("[1]")
    return [broken(box, listed), broken(box, with_record(box.corpus(), format="table"))]


def words(texts, **settings):
    sentences = c2s.read_texts(texts, VOCABULARY, **settings)
    return [sentences.genes(i) for i in range(len(sentences))], sentences.obs[
        ["n_unknown", "n_repeated"]
    ].to_numpy().tolist()


@case("text-missing")
def _(box):
    return [
        box.refused(DataError, c2s.read_texts, texts, VOCABULARY)
        for texts in (["CD4", None], ["CD4", np.nan], pd.Series(["CD4", np.nan]), pa.array(["CD4", None]))
    ]


@case("text-no-string")
def _(box):
    return [box.refused(DataError, c2s.read_texts, texts, VOCABULARY) for texts in ([1, 2], [["CD4", "B2M"]])]


@case("text-alone")
def _(box):
    return [box.refused(DataError, c2s.read_texts, text, VOCABULARY) for text in ("CD4 B2M", b"CD4 B2M")]


@case("text-unknown-words")
def _(box):
    assert words(["CD4 NONSENSE B2M", "cd4 B2M, TAP1"]) == ([["CD4", "B2M"], ["TAP1"]], [[1, 0], [2, 0]])
    return []


@case("text-repeated-genes")
def _(box):
    assert words(["CD4 B2M TAP1 CD4 IRF1"]) == ([["CD4", "B2M", "TAP1", "IRF1"]], [[0, 1]])
    assert words(["CD4 B2M TAP1 CD4 IRF1"], repair="mean_rank")[0] == [["B2M", "CD4", "TAP1", "IRF1"]]
    return []


@case("text-white-space")
def _(box):
    assert words(["CD4  B2M", " CD4\nB2M\t", "CD4 B2M.", "CD4 B2M ."]) == ([["CD4", "B2M"]] * 4, [[0, 0]] * 4)
    return []


@case("text-empty")
def _(box):
    assert words(["", "  ", "."]) == ([[], [], []], [[0, 0]] * 3)
    return []


@case("text-unknown-repair")
def _(box):
    return [box.refused(ConfigError, c2s.read_texts, ["CD4"], VOCABULARY, repair="best")]


@case("delimiter-in-symbol")
def _(box):
    sentences = c2s.CellSentences.from_lists([[0, 1]], GeneVocabulary(("MT ND1", "CD4")))
    assert c2s.write_texts(sentences, delimiter="|").to_pylist() == ["MT ND1|CD4"]
    return [box.refused(DataError, c2s.write_texts, sentences), box.refused(DataError, sentences.text, 0)]


@case("delimiter-empty")
def _(box):
    return [box.refused(DataError, c2s.write_texts, c2s.encode(cells()), delimiter="")]


def unread(box: Box, folder) -> str:
    return box.refused(ArtefactError, c2s.RankDecoder.read, folder)


@case("decoder-none")
def _(box):
    folder = box.path()
    c2s.encode_file(box.file(), folder, progress=False)
    return [unread(box, folder), box.refused(ArtefactError, box.said, "decode", folder, box.path(".h5ad"))]


@case("decoder-other-genes")
def _(box):
    decoder = c2s.RankDecoder.fit(cells())
    others = (GeneVocabulary(("CD4", "X", "Y")), GeneVocabulary(tuple(gene.capitalize() for gene in GENES), "mouse"))
    return [box.refused(ModelError, decoder.decode, c2s.CellSentences.from_lists([[0, 1]], other)) for other in others]


@case("decoder-truncated")
def _(box):
    cut, gone = box.corpus() / "decoder", box.corpus() / "decoder"
    (cut / "genes.safetensors").write_bytes((cut / "genes.safetensors").read_bytes()[:100])
    (gone / "genes.safetensors").unlink()
    return [unread(box, cut), unread(box, gone)]


@case("decoder-lines")
def _(box):
    messages = []
    for lines in (
        np.zeros((2, 3), np.float32),
        np.full((2, len(GENES)), np.nan, np.float32),
        np.zeros((2, len(GENES)), int),
    ):
        folder = box.corpus() / "decoder"
        arrays = load_file(folder / "genes.safetensors")
        save_file({**arrays, "surface": lines}, folder / "genes.safetensors")
        messages.append(unread(box, folder))
    return messages


@case("decoder-later")
def _(box):
    return [unread(box, with_record(box.corpus() / "decoder", "decoder.json", version=99))]


@case("decoder-json-lacks")
def _(box):
    fields = ("model", "slope", "surface", "vocabulary", "encoding", "background", "normalised_from")
    folders = [with_record(box.corpus() / "decoder", "decoder.json", drop=field) for field in fields]
    nothing = with_record(box.corpus() / "decoder", "decoder.json", slope=None)
    return [unread(box, folder) for folder in (*folders, nothing)]


@case("decoder-unknown-model")
def _(box):
    return [box.refused(ConfigError, c2s.RankDecoder.fit, cells(), model="spline")]


@case("decoder-single-gene")
def _(box):
    return [box.refused(DataError, c2s.RankDecoder.fit, cells(np.eye(N)[:, :8] + np.eye(N, 8, -8)))]
