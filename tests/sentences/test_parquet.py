"""Shards of a corpus: names that clash, how many there are, and values they cannot hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.errors import DataError
from c2s.sentences.corpus import CellSentences, read_sentences


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


def test_shards_end_before_too_many_ids(monkeypatch):
    from c2s.sentences import parquet

    monkeypatch.setattr(parquet, "MAX_IDS", 10)
    offsets = np.array([0, 4, 8, 30, 31, 36, 42])
    starts = parquet.shard_starts(offsets)
    assert starts == [0, 2, 3, 5]
    assert parquet.shard_starts(np.array([0])) == [0]


def test_values_arrow_cannot_hold_are_named(tmp_path):
    sentences = corpus_of([[1], [2]])
    mixed = sentences.with_obs(sentences.obs.assign(mixed=[1, "one"]))
    with pytest.raises(DataError, match=r"obs\['mixed'\].*cannot be stored.*astype\(str\)"):
        mixed.write(tmp_path / "c")
