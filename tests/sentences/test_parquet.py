"""Shards of a corpus: names that clash, how many there are, and values they cannot hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, DataError
from c2s.sentences.corpus import CellSentences, read_sentences
from c2s.sentences.parquet import read_obs, sentence_table


def corpus_of(lists):
    obs = pd.DataFrame({"depth": np.arange(len(lists)) * 1.5}, index=[f"c{i}" for i in range(len(lists))])
    return CellSentences.from_lists(lists, GeneVocabulary(tuple("ABCDEFGHIJ")), obs=obs)


def test_columns_named_as_ours_and_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("c2s.sentences.parquet.MAX_ROWS", 3)
    sentences = corpus_of([[i % 10, (i + 1) % 10] for i in range(8)])
    kind = pd.Categorical(list("aaabbbcc"))
    sentences = sentences.with_obs(sentences.obs.assign(cell=kind, ids=range(8), flag=True, note=None))
    sentences.write(tmp_path)
    assert sorted(p.name for p in tmp_path.glob("*")) == ["corpus.json", *(f"part-0000{i}.parquet" for i in range(3))]
    back = read_sentences(tmp_path)
    assert back.ids.tolist() == sentences.ids.tolist()
    assert back.obs["cell"].tolist() == list("aaabbbcc")
    assert back.obs["ids"].tolist() == list(range(8))
    assert back.obs.columns.tolist() == sentences.obs.columns.tolist()


@pytest.mark.parametrize(
    "note",
    [
        [None, None, "x", "y"],
        ["x", "y", None, None],
        [None, None, 1.5, 2],
        [1, 2, 1.5, None],
        [None, None, True, False],
        pd.Categorical([None, None, "x", "y"]),
        [None] * 4,
    ],
    ids=["text last", "text first", "numbers", "whole, then not", "flags", "categories", "nothing"],
)
def test_a_column_has_one_type_in_all_shards(tmp_path, monkeypatch, note):
    monkeypatch.setattr("c2s.sentences.parquet.MAX_ROWS", 2)
    sentences = corpus_of([[1], [2], [3], [4]])
    values = note if isinstance(note, pd.Categorical) else pd.Series(note, dtype=object, index=sentences.obs.index)
    sentences.with_obs(sentences.obs.assign(note=values)).write(tmp_path / "c")
    schemas = [pq.read_schema(file) for file in sorted((tmp_path / "c").glob("part-*"))]
    assert len(schemas) == 2
    assert schemas[0].equals(schemas[1])
    back = read_sentences(tmp_path / "c").obs["note"]
    assert back.isna().tolist() == pd.isna(values).tolist()
    assert back.dropna().tolist() == [value for value in values if not pd.isna(value)]


def parts(folder, *notes):
    """Return a corpus whose shards hold these columns, one sentence each, however they fit."""
    corpus_of([[1] for _ in notes]).write(folder)
    table = pq.read_table(folder / "part-00000.parquet")
    for i, columns in enumerate(notes):
        part = table.slice(i, 1)
        for name, array in columns.items():
            part = part.append_column(name, array)
        pq.write_table(part, folder / f"part-{i:05d}.parquet")
    return {"depth": "depth", "note": "note"}


def test_shards_whose_columns_had_types_of_their_own_are_read(tmp_path):
    columns = parts(tmp_path / "c", {"note": pa.nulls(1)}, {"note": pa.array(["x"])})
    assert read_obs(tmp_path / "c", columns)[1]["note"].tolist() == [None, "x"]


def test_shards_that_do_not_fit_say_what_to_do(tmp_path):
    columns = parts(tmp_path / "c", {"note": pa.array([{"a": 1}])}, {"note": pa.array(["x"])})
    with pytest.raises(ArtefactError, match=r"the parts in .*c do not fit each other: .*note.* Write the corpus again"):
        read_obs(tmp_path / "c", columns)
    columns = parts(tmp_path / "d", {"note": pa.array(["x"])}, {})
    with pytest.raises(ArtefactError, match=r"part-00001.parquet has no columns note; write the corpus again"):
        read_obs(tmp_path / "d", columns)


def test_a_plain_table_has_values_for_categories():
    sentences = corpus_of([[1], [2], [3]])
    kinds = {
        "kind": pd.Categorical(["b", None, "a"]),
        "none": pd.Categorical([None] * 3),
        "many": pd.Categorical([3, 1, 3]),
    }
    table = sentence_table(sentences.with_obs(sentences.obs.assign(**kinds)))
    assert not any(pa.types.is_dictionary(field.type) for field in table.schema)
    assert table.select(["kind", "none", "many"]).to_pydict() == {
        "kind": ["b", None, "a"],
        "none": [None] * 3,
        "many": [3, 1, 3],
    }


def test_shards_hold_about_as_many_ids(monkeypatch):
    from c2s.sentences import parquet

    monkeypatch.setattr(parquet, "MAX_IDS", 10)
    lengths = np.random.default_rng(0).integers(0, 5, 100)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    starts = parquet.shard_starts(offsets)
    assert starts[0] == 0
    assert starts[-1] == 100
    sizes = np.diff(offsets[starts])
    assert sizes.sum() == lengths.sum()
    assert sizes.max() <= 10 + 4
    assert sizes.min() >= 10 - 2 * 4
    assert parquet.shard_starts(np.array([0])) == [0, 0]
    assert parquet.shard_starts(np.array([0, 50])) == [0, 1]
    monkeypatch.setattr(parquet, "MAX_ROWS", 2)
    assert parquet.shard_starts(np.arange(6)) == [0, 1, 3, 5]


def test_many_shards_are_read_back_as_one(monkeypatch, tmp_path):
    from c2s.sentences import parquet

    monkeypatch.setattr(parquet, "MAX_IDS", 10)
    sentences = corpus_of([[i % 3, 3 + i % 2] for i in range(40)])
    sentences.write(tmp_path / "c")
    assert len(list((tmp_path / "c").glob("part-*.parquet"))) == 8
    back = read_sentences(tmp_path / "c")
    np.testing.assert_array_equal(back.ids, sentences.ids)
    np.testing.assert_array_equal(back.offsets, sentences.offsets)
    assert list(back.obs.index) == list(sentences.obs.index)


def test_values_arrow_cannot_hold_are_named(tmp_path):
    sentences = corpus_of([[1], [2]])
    mixed = sentences.with_obs(sentences.obs.assign(mixed=[1, "one"]))
    with pytest.raises(DataError, match=r"obs\['mixed'\].*cannot be stored.*astype\(str\)"):
        mixed.write(tmp_path / "c")
