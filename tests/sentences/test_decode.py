"""Ranks back to expression: parity with the literature's line, and the gene-aware decoder beating it."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.cells.genes import GeneVocabulary
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.cells.reading import expression
from c2s.errors import ArtefactError, ConfigError, DataError, ModelError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.sentences.surface import give_way


def simulated(n=200, g=150, seed=0):
    """Poisson counts over genes of unlike abundance and cells of unlike depth."""
    rng = np.random.default_rng(seed)
    abundance = np.exp(1.5 * np.random.default_rng(7).normal(size=g))
    depth = np.exp(0.6 * rng.normal(size=(n, 1)))
    counts = rng.poisson(depth * abundance)
    counts[0, 0] = 1
    obs = pd.DataFrame(
        {"batch": pd.Categorical(rng.integers(0, 2, n).astype(str))}, index=[f"s{seed}c{i}" for i in range(n)]
    )
    return ad.AnnData(sp.csr_matrix(counts), obs, pd.DataFrame(index=[f"GENE{i}" for i in range(g)]))


def truth_of(adata):
    return counts_to_log1p_cp10k(expression(adata)[0])


def r_squared(decoded, truth):
    there = truth.toarray() > 0
    y, p = truth.toarray()[there], decoded.toarray()[there]
    return 1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2)


@pytest.fixture(scope="module")
def train():
    return simulated(seed=1)


@pytest.fixture(scope="module")
def gene_decoder(train):
    return RankDecoder.fit(train)


@pytest.fixture(scope="module")
def line_decoder(train):
    return RankDecoder.fit(train, model="log_rank")


def test_the_line_is_ordinary_least_squares_on_log_rank(train, line_decoder):
    sentences, truth = encode(train), truth_of(train).toarray()
    x, y = [], []
    for i in range(len(sentences)):
        for rank, gene in enumerate(sentences.row(i)):
            x.append(np.log10(1 + rank))
            y.append(truth[i, gene])
    slope, intercept = np.polyfit(x, y, 1)
    assert (line_decoder.slope, line_decoder.intercept) == pytest.approx((slope, intercept), abs=1e-5)


def test_the_line_decodes_as_the_formula(line_decoder):
    sentences = CellSentences.from_lists([[4, 0, 9], []], line_decoder.vocabulary)
    decoded = line_decoder.decode(sentences).X.toarray()
    expected = np.zeros((2, 150))
    for rank, gene in enumerate([4, 0, 9]):
        expected[0, gene] = line_decoder.intercept + line_decoder.slope * np.log10(1 + rank)
    np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_only_ranks_below_999_fit_the_line():
    counts = np.arange(1, 1501)[None, ::-1]
    adata = ad.AnnData(
        sp.csr_matrix(counts), pd.DataFrame(index=["c"]), pd.DataFrame(index=[f"GENE{i}" for i in range(1500)])
    )
    decoder = RankDecoder.fit(adata, model="log_rank")
    y = truth_of(adata).toarray()[0][:999]
    slope, intercept = np.polyfit(np.log10(1 + np.arange(999)), y, 1)
    assert (decoder.slope, decoder.intercept) == pytest.approx((slope, intercept), rel=1e-4)


def test_the_line_is_cut_off_at_zero_unless_told_otherwise(train):
    sentences = CellSentences.from_lists([list(range(150))], GeneVocabulary.from_adata(train))
    clipped, raw = (RankDecoder.fit(train, model="log_rank", clip=clip) for clip in (True, False))
    steep = RankDecoder(**{**vars(raw), "slope": -5.0})
    assert steep.decode(sentences).X.min() < 0
    assert RankDecoder(**{**vars(clipped), "slope": -5.0}).decode(sentences).X.min() == 0


@pytest.mark.parametrize("n_genes", [None, 30])
def test_gene_beats_the_line_on_held_out_cells(gene_decoder, line_decoder, n_genes):
    held_out = simulated(seed=2)
    sentences = encode(held_out, background=gene_decoder.background, n_genes=n_genes)
    truth = truth_of(held_out)
    if n_genes:
        kept = np.zeros(truth.shape, bool)
        for i in range(len(sentences)):
            kept[i, sentences.row(i)] = True
        truth = sp.csr_matrix(truth.toarray() * kept)
    gene, line = (r_squared(decoder.decode(sentences).X, truth) for decoder in (gene_decoder, line_decoder))
    assert gene > line + 0.02
    assert gene > 0.9


@pytest.mark.parametrize("model", ["gene_aware", "depth_aware"])
@pytest.mark.parametrize("ties", ["hash", "background"])
def test_values_fall_along_the_sentence_and_are_never_negative(train, ties, model):
    decoder = RankDecoder.fit(train, ties=ties, model=model)
    sentences = encode(simulated(seed=3), ties=ties, background=decoder.background)
    decoded = decoder.decode(sentences).X.toarray()
    smallest = truth_of(simulated(seed=1)).data.min()
    for i in range(len(sentences)):
        values = decoded[i, sentences.row(i)]
        assert np.all(np.diff(values) <= 0)
        assert np.all(values >= smallest)
    assert np.count_nonzero(decoded) == len(sentences.ids)


def test_decoded_cells_are_complete(gene_decoder):
    held_out = simulated(seed=4)
    sentences = encode(held_out, background=gene_decoder.background)
    cells = gene_decoder.decode(sentences)
    assert cells.X.format == "csr"
    assert cells.X.dtype == np.float32
    assert cells.X.has_sorted_indices
    assert cells.var_names.tolist() == held_out.var_names.tolist()
    assert cells.obs["batch"].tolist() == held_out.obs["batch"].tolist()
    assert cells.obs["n_expressed"].tolist() == sentences.n_expressed.tolist()
    assert cells.uns["c2s_decoder"]["model"] == "gene_aware"


@pytest.mark.parametrize("model", ["gene_aware", "depth_aware", "log_rank"])
def test_values_are_the_columns_of_decode(train, gene_decoder, line_decoder, model, monkeypatch):
    monkeypatch.setattr("c2s.sentences.decode._CHUNK", 7)
    decoder = {"gene_aware": gene_decoder, "log_rank": line_decoder}.get(model) or RankDecoder.fit(train, model=model)
    sentences = encode(simulated(n=30, seed=5), background=decoder.background)
    genes = [140, 3, 3, 77]
    values = decoder.values(sentences, genes)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, decoder.decode(sentences).X.toarray()[:, genes], atol=1e-6)
    with pytest.raises(DataError, match="run from 0 to 150"):
        decoder.values(sentences, [0, 150])


def test_decoding_does_not_depend_on_the_other_sentences(gene_decoder):
    sentences = encode(simulated(n=20, seed=6), background=gene_decoder.background)
    whole = gene_decoder.decode(sentences).X.toarray()
    np.testing.assert_array_equal(gene_decoder.decode(sentences[[13, 2]]).X.toarray(), whole[[13, 2]])


def test_an_unknown_number_of_genes_is_the_training_median_and_is_said(gene_decoder, caplog):
    row = list(range(40))
    unknown = CellSentences.from_lists([row], gene_decoder.vocabulary)
    known = CellSentences.from_lists(
        [row], gene_decoder.vocabulary, n_expressed=np.array([gene_decoder.median_n_expressed])
    )
    with caplog.at_level("INFO"):
        decoded = gene_decoder.decode(unknown).X.toarray()
    assert (
        f"1 of 1 sentences have an unknown number of expressed genes; the training median {gene_decoder.median_n_expressed}"
        in caplog.text
    )
    np.testing.assert_array_equal(decoded, gene_decoder.decode(known).X.toarray())
    sizes = encode(simulated(seed=1)).n_expressed
    assert gene_decoder.median_n_expressed == int(np.median(sizes))


def test_genes_are_matched_by_symbol(gene_decoder):
    sentences = CellSentences.from_lists([[5, 9, 2]], gene_decoder.vocabulary)
    symbols = ("NEW", *gene_decoder.vocabulary.symbols[::-1])
    moved = CellSentences.from_lists([sentences.genes(0)], GeneVocabulary(symbols))
    expected = gene_decoder.decode(sentences).to_df().iloc[0]
    found = gene_decoder.decode(moved).to_df().iloc[0]
    pd.testing.assert_series_equal(found[expected.index], expected)
    strange = CellSentences.from_lists([[0]], GeneVocabulary(("X", "Y", "GENE1")))
    with pytest.raises(ModelError, match="knows 1 of the 3 genes"):
        gene_decoder.decode(strange)


def test_depth_aware_is_gene_aware_without_what_it_knows_of_genes(train, gene_decoder):
    depth = RankDecoder.fit(train, background=gene_decoder.background, model="depth_aware")
    bare = replace(gene_decoder, ladder=None, surface=gene_decoder.surface.without_genes())
    sentences = encode(simulated(n=20, seed=6), background=gene_decoder.background)
    np.testing.assert_array_equal(depth.decode(sentences).X.toarray(), bare.decode(sentences).X.toarray())


@pytest.mark.parametrize("length", [10, 80])
def test_values_give_way_to_a_surface_far_above_the_leading_ones(length):
    rng = np.random.default_rng(0)
    above = [0.2, 0.55, 0.9, -0.9, 0.9]  # of the surface over the first 50; the last row is not asked for
    values = rng.uniform(1, 3, (5, length)).astype(np.float32)
    smooth = values + np.array(above, np.float32)[:, None]
    smooth[:, 50:] = values[:, 50:] - 2.0  # what follows has no say
    found = values.copy().ravel()
    offsets = np.append(np.arange(0, 5 * length, length), [5 * length] * 2)
    give_way(found, smooth.ravel(), offsets, np.array([0, 1, 2, 3, 5]))  # row 5 is empty
    share = np.array([[0.0], [0.5], [1.0], [0.0], [0.0]])
    np.testing.assert_allclose(found.reshape(5, length), (1 - share) * values + share * smooth, atol=1e-5)


@pytest.mark.parametrize("model", ["gene_aware", "depth_aware", "log_rank"])
def test_folders(tmp_path, model, train, gene_decoder, line_decoder):
    decoder = {"gene_aware": gene_decoder, "log_rank": line_decoder}.get(model) or RankDecoder.fit(train, model=model)
    sentences = encode(simulated(n=10, seed=8), background=decoder.background)
    decoder.write(tmp_path / "decoder")
    for folder in (tmp_path / "decoder", tmp_path):
        back = RankDecoder.read(folder)
        np.testing.assert_array_equal(back.decode(sentences).X.toarray(), decoder.decode(sentences).X.toarray())
        assert (back.background, back.encoding, back.vocabulary) == (
            decoder.background,
            decoder.encoding,
            decoder.vocabulary,
        )
    with pytest.raises(ArtefactError, match="not empty"):
        decoder.write(tmp_path / "decoder")
    decoder.write(tmp_path / "decoder", overwrite=True)


def test_a_decoder_is_written_whole(tmp_path, gene_decoder, line_decoder, monkeypatch):
    """A write cut off between its files leaves the old decoder, or none, and the next write goes through."""

    def dying(*_):
        raise KeyboardInterrupt

    line_decoder.write(tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr("c2s.sentences.decode.write_json", dying)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a killed process does not tidy up
        for name in ("old", "new"):
            with pytest.raises(KeyboardInterrupt):
                gene_decoder.write(tmp_path / name, overwrite=True)
    assert RankDecoder.read(tmp_path / "old").model == "log_rank"
    assert not (tmp_path / "new").exists()
    for name in ("old", "new"):
        gene_decoder.write(tmp_path / name, overwrite=True)
        assert RankDecoder.read(tmp_path / name).model == "gene_aware"


def test_broken_folders_say_what_is_wrong(tmp_path, gene_decoder):
    with pytest.raises(ArtefactError, match=r"no decoder.json; make one by c2s encode --fit-decoder"):
        RankDecoder.read(tmp_path)
    folder = gene_decoder.write(tmp_path / "d")
    arrays = (folder / "genes.safetensors").read_bytes()
    (folder / "genes.safetensors").write_bytes(arrays[:60])
    with pytest.raises(ArtefactError, match=r"cannot read .*genes.safetensors"):
        RankDecoder.read(folder)
    (folder / "decoder.json").write_text('{"format": "c2s-decoder", "version": 99}')
    with pytest.raises(ArtefactError, match="version 99"):
        RankDecoder.read(folder)
    (folder / "decoder.json").write_text('{"format": "c2s-decoder", "version": 1, "model": "gene"}')
    with pytest.raises(
        ArtefactError, match=r"version 1 \(model 'gene'\), which this c2s no longer reads; fit it again"
    ):
        RankDecoder.read(folder)


@pytest.mark.parametrize(("scale", "unit"), [("log1p", 1.0), ("log2", np.log(2)), ("log10", np.log(10))])
def test_logarithms_to_any_base_give_the_decoder_of_the_counts(train, scale, unit):
    logged = train.copy()
    logged.X = truth_of(train) / np.float32(unit)
    one, other = (RankDecoder.fit(cells, model="depth_aware") for cells in (logged, train))
    assert (one.normalised_from, other.normalised_from) == (scale, "counts")
    assert (one.encoding.values, other.encoding.values) == (scale, "counts")
    assert (one.slope, one.intercept) == pytest.approx((other.slope, other.intercept), rel=1e-4)
    sentences = encode(train)
    np.testing.assert_allclose(
        one.decode(sentences).X.toarray(), other.decode(sentences).X.toarray(), rtol=1e-3, atol=1e-4
    )


def test_many_values_are_sampled_by_the_seed(train, monkeypatch, caplog):
    monkeypatch.setattr("c2s.sentences.decode.MAX_FIT_ENTRIES", 5000)
    with caplog.at_level("INFO"):
        one, again, other = (RankDecoder.fit(train, seed=seed) for seed in (0, 0, 1))
    assert f"fitted to {one.n_cells} of 200 cells" in caplog.text
    assert one.slope == again.slope != other.slope
    assert one.background == RankDecoder.fit(train).background


def test_what_cannot_be_fitted(train):
    with pytest.raises(ConfigError, match="choose 'gene_aware', 'depth_aware', 'log_rank'"):
        RankDecoder.fit(train, model="spline")
    single = ad.AnnData(np.eye(3), pd.DataFrame(index=list("abc")), pd.DataFrame(index=["CD4", "B2M", "TAP1"]))
    with pytest.raises(DataError, match="single gene"):
        RankDecoder.fit(single)


@pytest.mark.real
def test_gene_beats_the_line_on_pbmc3k(data_dir):
    adata = ad.read_h5ad(data_dir / "pbmc3k" / "pbmc3k_counts.h5ad")
    order = np.random.default_rng(0).permutation(adata.n_obs)
    train, held_out = adata[order[:1200]].copy(), adata[order[1200:1600]].copy()
    gene = RankDecoder.fit(train)
    line = RankDecoder.fit(train, model="log_rank", background=gene.background)
    sentences, truth = encode(held_out, background=gene.background), truth_of(held_out)
    cells = np.repeat(np.arange(len(sentences)), sentences.lengths)
    y = np.asarray(truth[cells, sentences.ids]).ravel()
    scores = []
    for decoder in (gene, line):
        p = np.asarray(decoder.decode(sentences).X[cells, sentences.ids]).ravel()
        scores.append(1 - np.sum((y - p) ** 2) / np.sum((y - y.mean()) ** 2))
    assert scores[0] > 0.97
    assert scores[0] > scores[1] + 0.05
