"""Sentences in memory and on disk: slices, ranks, text, round trips, broken files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.cells.genes import GeneVocabulary
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences, read_sentences
from c2s.sentences.record import Encoding

GENES = tuple("ABCDEFGHIJ")
VOCABULARY = GeneVocabulary(GENES)
rows = st.lists(
    st.permutations(range(10)).flatmap(lambda p: st.integers(0, 10).map(lambda n: p[:n])), min_size=1, max_size=8
)


def corpus_of(lists, **options):
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(["B" if i % 2 else "T" for i in range(len(lists))]),
            "depth": np.arange(len(lists)) * 1.5,
        },
        index=[f"c{i}" for i in range(len(lists))],
    )
    return CellSentences.from_lists(lists, VOCABULARY, obs=obs, **options)


def lists_of(sentences):
    return [sentences.row(i).tolist() for i in range(len(sentences))]


def test_symbols_or_ids():
    sentences = CellSentences.from_lists([["C", "A"], [9], []], VOCABULARY)
    assert lists_of(sentences) == [[2, 0], [9], []]
    assert sentences.genes(0) == ["C", "A"]
    assert [sentences.text(i) for i in range(3)] == ["C A", "J", ""]
    assert sentences.text(0, delimiter="\t") == "C\tA"
    assert sentences.n_expressed.tolist() == [-1, -1, -1]
    assert sentences.obs.index.tolist() == ["0", "1", "2"]
    assert sentences.row(-1).tolist() == []
    assert len(CellSentences.from_lists([], VOCABULARY)) == 0


def test_text_that_could_not_be_split_again_is_refused():
    sentences = CellSentences.from_lists([[0, 1]], GeneVocabulary(("MT ND1", "B")))
    with pytest.raises(DataError, match="genes MT ND1 hold the delimiter ' '"):
        sentences.text(0)
    assert sentences.text(0, delimiter=",") == "MT ND1,B"


@settings(deadline=None)
@given(rows, st.data())
def test_every_way_to_choose_rows(lists, data):
    sentences = corpus_of(lists, n_expressed=np.arange(len(lists)) + 10)
    n = len(lists)
    part = data.draw(st.slices(n))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    index = data.draw(st.lists(st.integers(-n, n - 1), max_size=n, unique_by=lambda i: i % n))
    for chosen, positions in (
        (part, np.arange(n)[part]),
        (mask, np.flatnonzero(mask)),
        (index, np.array(index, int) % n),
    ):
        taken = sentences[chosen]
        assert lists_of(taken) == [list(lists[i]) for i in positions]
        assert taken.obs.index.tolist() == [f"c{i}" for i in positions]
        assert taken.n_expressed.tolist() == [i + 10 for i in positions]


def test_rows_chosen_twice_get_their_own_names():
    assert corpus_of([[1], [2]])[[0, 1, 0]].obs.index.tolist() == ["c0", "c1", "c0-1"]


def test_wrong_rows_are_refused():
    sentences = corpus_of([[1], [2]])
    with pytest.raises(TypeError, match=r"use .row\(0\)"):
        sentences[0]
    with pytest.raises(TypeError, match="not float64"):
        sentences[[0.5]]
    with pytest.raises(IndexError, match="a mask of"):
        sentences[np.array([True])]
    with pytest.raises(IndexError, match="rows 2 to 2 of 2"):
        sentences[[2]]
    with pytest.raises(IndexError, match="sentence 2 of 2"):
        sentences.row(2)


@settings(deadline=None)
@given(rows, st.integers(1, 12))
def test_truncate(lists, n):
    cut = corpus_of(lists, n_expressed=np.full(len(lists), 99)).truncate(n)
    assert lists_of(cut) == [list(row[:n]) for row in lists]
    assert np.all(cut.n_expressed == 99)
    assert cut.encoding.n_genes == n
    assert cut.truncate(50).encoding.n_genes == n
    with pytest.raises(ConfigError, match="at least 1"):
        cut.truncate(0)


@settings(deadline=None)
@given(rows, st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 13))
def test_ranks_against_list_index(lists, genes, absent):
    found = corpus_of(lists).ranks(genes, absent=absent)
    for i, row in enumerate(lists):
        expected = [list(row).index(g) + 1 if g in row else absent for g in genes]
        assert found[i].tolist() == [min(rank, absent) for rank in expected]
    assert found.dtype == np.int32


def test_ranks_refuse_what_is_not_a_gene_or_a_rank():
    sentences = corpus_of([[1]])
    with pytest.raises(DataError, match="run from 0 to 10; the vocabulary has 10"):
        sentences.ranks([0, 10], absent=5)
    with pytest.raises(ConfigError, match="absent=0"):
        sentences.ranks([0], absent=0)
    assert sentences.ranks([], absent=3).shape == (1, 0)


@settings(deadline=None, max_examples=20)
@given(rows, rows)
def test_concatenate_then_slice_is_the_identity(one, other):
    first, second = corpus_of(one), corpus_of(other)
    both = CellSentences.concatenate([first, second])
    assert lists_of(both) == lists_of(first) + lists_of(second)
    assert lists_of(both[len(one) :]) == lists_of(second)
    assert both.obs.index.is_unique


def test_unlike_sentences_are_not_concatenated():
    one = corpus_of([[1]])
    other = CellSentences.from_lists([[0]], GeneVocabulary(("X",)))
    for wrong, what in (
        (other, "vocabulary"),
        (corpus_of([[1]], encoding=Encoding(ties="hash")), "ties"),
        (corpus_of([[1]], background=Background(VOCABULARY, np.zeros(10), 3)), "background"),
    ):
        with pytest.raises(DataError, match=f"different {what}"):
            CellSentences.concatenate([one, wrong])
    with pytest.raises(DataError, match="nothing"):
        CellSentences.concatenate([])
    seeds = [corpus_of([[1]], encoding=Encoding(ties="hash", seed=seed)) for seed in (1, 2)]
    with pytest.raises(DataError, match="seed 1 and hash, seed 2"):
        CellSentences.concatenate(seeds)
    merged = CellSentences.concatenate([one, corpus_of([[1]], encoding=Encoding(n_genes=5))])
    assert merged.encoding.n_genes is None


def test_joined_cells_keep_their_limit_and_are_still_cells_that_were_read():
    def part(n_genes, source):
        return corpus_of([[1]], encoding=Encoding(n_genes=n_genes, source_hash=source))

    joined = CellSentences.concatenate([part(3, "a"), part(5, "b")]).encoding
    assert joined.n_genes == 5
    assert joined.source_hash not in (None, "a", "b")
    assert CellSentences.concatenate([part(3, "a"), part(3, None)]).encoding.source_hash is None
    assert CellSentences.concatenate([part(3, "a"), part(3, "a")]).encoding.source_hash == "a"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ids": [0, 10]}, "ids run from 0 to 10 in a vocabulary of 10"),
        ({"ids": [-1, 0]}, "ids run from -1"),
        ({"offsets": [0, 1]}, "offsets must rise"),
        ({"offsets": [0, 3, 2]}, "offsets must rise"),
        ({"n_expressed": [1]}, "2 sentences, but 1 n_expressed"),
        ({"obs": pd.DataFrame(index=["a"])}, "1 rows of obs"),
        ({"obs": pd.DataFrame(index=["a", "a"])}, "1 cell names occur more than once: a"),
    ],
)
def test_parts_that_do_not_fit(changes, match):
    parts = {"ids": [0, 1], "offsets": [0, 1, 2], "n_expressed": [1, 1], "obs": pd.DataFrame(index=["a", "b"])}
    with pytest.raises(DataError, match=match):
        CellSentences(**{**parts, **changes}, vocabulary=VOCABULARY, encoding=Encoding())


def test_with_obs_and_repr():
    sentences = corpus_of([[1, 2], [3]])
    other = sentences.with_obs(pd.DataFrame({"x": [1, 2]}, index=["p", "q"]))
    assert other.obs.columns.tolist() == ["x"]
    assert repr(sentences).startswith("CellSentences: 2 sentences of 1–2 genes, 10 human genes")
    with pytest.raises(DataError, match="rows of obs"):
        sentences.with_obs(pd.DataFrame(index=["p"]))
    assert sentences.with_obs(pd.DataFrame(index=[4, 5])).obs.index.tolist() == ["4", "5"]


@settings(deadline=None, max_examples=15)
@given(rows)
def test_written_sentences_are_read_back(tmp_path_factory, lists):
    folder = tmp_path_factory.mktemp("corpus")
    background = Background(VOCABULARY, np.linspace(0, 1, 10), 7)
    encoding = Encoding(n_genes=10, seed=3, background_hash=background.hash)
    sentences = corpus_of(lists, n_expressed=np.arange(len(lists)) + 10, encoding=encoding, background=background)
    sentences.write(folder)
    back = read_sentences(folder)
    assert lists_of(back) == lists_of(sentences)
    assert back.n_expressed.tolist() == sentences.n_expressed.tolist()
    assert (back.vocabulary, back.encoding, back.background) == (sentences.vocabulary, encoding, background)
    pd.testing.assert_frame_equal(back.obs, sentences.obs, check_index_type=False)
    assert back.ids.dtype == np.int32


def test_an_empty_corpus_round_trips(tmp_path):
    CellSentences.from_lists([], VOCABULARY).write(tmp_path)
    assert len(read_sentences(tmp_path)) == 0


def test_folders_are_not_overwritten_by_accident(tmp_path):
    corpus_of([[1], [2]]).write(tmp_path / "c")
    with pytest.raises(ArtefactError, match="not empty"):
        corpus_of([[1]]).write(tmp_path / "c")
    corpus_of([[1]]).write(tmp_path / "c", overwrite=True)
    assert len(read_sentences(tmp_path / "c")) == 1


def test_a_corpus_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path):
    folder = corpus_of([[1], [2], [3]]).write(tmp_path / "c")
    other = corpus_of([[4], [5], [6]])
    with pytest.raises(DataError, match=r"obs\['x'\].*cannot be stored"):
        other.with_obs(other.obs.assign(x=[1, "a", {2}])).write(folder, overwrite=True)
    assert lists_of(read_sentences(folder)) == [[1], [2], [3]]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_write_that_was_killed_blocks_no_later_one(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def dying(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("c2s.sentences.corpus.write_json", dying)  # after the parts, before corpus.json
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a killed process does not tidy up
        corpus_of([[1]]).write(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert list(tmp_path.glob(".c.*/part-*.parquet"))
    for overwrite in (False, True):
        corpus_of([[2]]).write(tmp_path / "c", overwrite=overwrite)
        assert lists_of(read_sentences(tmp_path / "c")) == [[2]]


def test_broken_corpora_say_what_is_wrong(tmp_path):
    with pytest.raises(ArtefactError, match=r"no corpus.json\); make one by c2s encode"):
        read_sentences(tmp_path)
    folder = corpus_of([[1], [2, 3]]).write(tmp_path / "c")
    part = folder / "part-00000.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:-40])
    with pytest.raises(ArtefactError, match="truncated; write the corpus again"):
        read_sentences(folder)
    part.unlink()
    with pytest.raises(ArtefactError, match=r"no part-\*.parquet"):
        read_sentences(folder)
    part.write_bytes(content)
    record = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({**record, "n": 3}))
    with pytest.raises(ArtefactError, match="holds 2 of 3 sentences and 3 of 3 genes: a part is missing"):
        read_sentences(folder)
    (folder / "corpus.json").write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(ArtefactError, match="version 99"):
        read_sentences(folder)
    (folder / "corpus.json").write_text('{"form')
    with pytest.raises(ArtefactError, match="not valid JSON"):
        read_sentences(folder)


def test_to_dataset(tmp_path):
    sentences = corpus_of([[1, 2], [], [3]])
    dataset = sentences.to_dataset()
    assert dataset.column_names == ["cell", "ids", "n_expressed", "cell_type", "depth"]
    assert [dataset[i]["ids"] for i in range(3)] == [[1, 2], [], [3]]
    assert dataset["cell_type"][:2] == ["T", "B"]
    assert dataset.map(lambda row: {"length": len(row["ids"])})["length"][:] == [2, 0, 1]


def test_load_dataset_reads_the_folder_as_it_is(tmp_path):
    import datasets

    corpus_of([[1, 2], [], [3]]).write(tmp_path / "c")
    files = str(tmp_path / "c" / "part-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["ids"][:] == [[1, 2], [], [3]]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"ids": np.array([0.5, 1.0])}, "ids must be whole numbers"),
        ({"ids": np.array([2**32, 1])}, "ids must be whole numbers from"),
        ({"n_expressed": np.array([1.0, np.nan])}, "n_expressed must be whole numbers"),
        ({"n_expressed": np.array([1, 0])}, "sentence 1 has 1 genes and n_expressed 0"),
        ({"n_expressed": np.array([1, -2])}, "n_expressed -2"),
    ],
)
def test_nothing_is_cast_in_silence(part, message):
    parts = {"ids": [0, 1], "offsets": [0, 1, 2], "n_expressed": [1, 1], "obs": pd.DataFrame(index=["a", "b"])}
    with pytest.raises(DataError, match=message):
        CellSentences(**(parts | part), vocabulary=VOCABULARY, encoding=Encoding())


def test_types_of_columns_come_back(tmp_path):
    obs = pd.DataFrame(
        {
            "count": pd.array([2**60 + 1, None, 3], dtype="Int64"),
            "kept": pd.array([True, None, False], dtype="boolean"),
            "cluster": pd.Categorical([3, 1, 3], categories=[1, 2, 3]),
            "stage": pd.Categorical(["late", "early", None], categories=["early", "mid", "late"], ordered=True),
            "type": pd.Categorical(["B", "T", "B"]),
            "day": pd.to_datetime(["2024-01-01", None, "2024-03-01"]),
            "depth": [0.5, 1.5, np.nan],
        },
        index=["a", "b", "c"],
    )
    sentences = corpus_of([[0], [1], [2]]).with_obs(obs)
    back = read_sentences(sentences.write(tmp_path / "corpus"))
    pd.testing.assert_frame_equal(back.obs, obs, check_index_type=False)
    assert back.obs["count"].iloc[0] == 2**60 + 1
    mapped = read_sentences(tmp_path / "corpus", memory_map=True)
    assert list(mapped.obs.columns) == list(obs.columns)
    assert mapped.obs["count"].iloc[0] == 2**60 + 1


def test_columns_of_one_name_are_refused(tmp_path):
    obs = pd.DataFrame([[1, 2], [3, 4]], columns=["x", "x"], index=["a", "b"])
    with pytest.raises(DataError, match="several columns called x"):
        corpus_of([[0], [1]]).with_obs(obs).write(tmp_path / "corpus")
