"""scFID by group, its floors, the road that both sides take, and what has no value."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from c2s.errors import ConfigError, DataError, ModelError
from c2s.metrics.cell_fid import scfid
from c2s.metrics.frechet import gaussian_frechet
from c2s.metrics.road import PCAEmbedder, SentenceRoad
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode

D = 4


def given(cells: ad.AnnData) -> np.ndarray:
    """Return the vectors that the cells carry."""
    return np.asarray(cells.obsm["v"], dtype=np.float32)


def clouds(n: int, shift: float = 0.0, seed: int = 0, types: tuple[str, ...] = ("B", "T")) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame({"type": np.repeat(types, n), "donor": np.tile(["d1", "d2"], n * len(types) // 2)})
    obs.index = obs.index.astype(str)
    vectors = rng.normal(size=(len(obs), D)) + 5.0 * (obs["type"].to_numpy() == "T")[:, None]
    vectors[:, 0] += shift
    return ad.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs, obsm={"v": vectors})


def by_name(results):
    return {row.metric: row for row in results}


def test_groups_pooled_mean_and_floors():
    found = by_name(
        scfid(
            clouds(200), clouds(200, shift=2, seed=1), embedder=given, groupby="type", donor_key="donor", n_resamples=40
        )
    )
    for group in ("B", "T", "all cells"):
        row = found[f"scFID, {group}"]
        assert row.low < row.value < row.high
        assert row.value == pytest.approx(4, rel=0.25)
        assert row.space == "given, 4 dimensions, extrapolated"
        half = found[f"scFID between halves of the real cells, {group}"]
        assert half.low < 0 < half.high
        assert abs(found[f"scFID between donors, {group}"].value) < (1 if group == "all cells" else 0.3)
    assert found["scFID, mean of groups"].value == pytest.approx(
        (found["scFID, B"].value + found["scFID, T"].value) / 2
    )
    assert found["scFID, B"].n == 200
    floor = "scFID between halves of the real cells"
    halves = [found[f"{floor}, {group}"].value for group in ("B", "T")]
    assert found[f"{floor}, mean of groups"].value == pytest.approx(np.mean(halves))
    assert found["scFID between donors, mean of groups"].n == 2


def test_small_groups_have_a_reason_and_no_value():
    found = by_name(scfid(clouds(60), clouds(30, types=("B", "T")), embedder=given, groupby="type", n_resamples=0))
    assert np.isnan(found["scFID, B"].value)
    assert "60 real and 30 generated" in found["scFID, B"].reason
    assert found["scFID, all cells"].value == pytest.approx(0, abs=1.5)
    assert "2 of 2 groups" in found["scFID, mean of groups"].reason
    few = by_name(
        scfid(clouds(60), clouds(60, seed=1), embedder=given, n_dimensions=2, donor_key="donor", n_resamples=0)
    )
    assert few["scFID, all cells"].space == "given, 2 dimensions, extrapolated"


def test_plain_covariances_get_a_tenth_of_the_cells_and_shrunk_ones_all():
    wide = clouds(60)
    wide.obsm["v"] = np.random.default_rng(0).normal(size=(120, 30))
    plain = scfid(wide, wide, embedder=given, n_resamples=0)[0]
    assert plain.space == "given, 6 dimensions, extrapolated"
    shrunk = scfid(wide, wide, embedder=given, covariance="shrunk", n_resamples=0)[0]
    assert shrunk.space == "given, 30 dimensions, shrunk covariances"
    assert shrunk.value == pytest.approx(0, abs=1e-6)


def test_value_of_many_cells_is_that_of_their_gaussians():
    real, generated = clouds(3000, types=("B",)), clouds(3000, shift=1, seed=1, types=("B",))
    generated.obsm["v"] = generated.obsm["v"] * np.array([1, 2, 1, 1])
    truth = gaussian_frechet(np.zeros(D), np.eye(D), [1, 0, 0, 0], np.diag([1, 4, 1, 1]))
    assert scfid(real, generated, embedder=given, n_resamples=0)[0].value == pytest.approx(truth, rel=0.08)


def test_what_cannot_be_measured_is_refused():
    cells = clouds(60)
    with pytest.raises(DataError, match="no group is in both"):
        scfid(cells, clouds(60, types=("NK", "DC")), embedder=given, groupby="type")
    with pytest.raises(DataError, match="no column 'kind'"):
        scfid(cells, cells, embedder=given, groupby="kind")
    with pytest.raises(DataError, match="there are no generated cells"):
        scfid(cells, cells[:0].copy(), embedder=given)
    with pytest.raises(DataError, match="a row a cell"):
        scfid(cells, cells, embedder=lambda each: np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="n_dimensions=0"):
        scfid(cells, cells, embedder=given, n_dimensions=0)


def expressed(n: int, seed: int, n_genes: int = 60) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    rates = np.random.default_rng(9).gamma(0.5, 2, size=n_genes)
    counts = rng.poisson(rates * rng.gamma(5, 0.2, size=(n, 1)))
    obs = pd.DataFrame(index=[f"s{seed}c{i}" for i in range(n)])
    return ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(n_genes)])
    )


def test_both_sides_take_the_same_road():
    training, real = expressed(150, 0), expressed(150, 1)
    decoder = RankDecoder.fit(training)
    road = SentenceRoad(decoder, decoder.vocabulary, decoder.background, n_genes=20)
    written = encode(expressed(150, 2), vocabulary=decoder.vocabulary, background=decoder.background)
    embedder = PCAEmbedder.fit(road(training), n_components=5)
    found = by_name(scfid(real, written, embedder=embedder, road=road, n_resamples=0))
    by_hand = scfid(road(real), road(written), embedder=embedder, n_resamples=0)[0]
    assert found["scFID, all cells"].value == pytest.approx(by_hand.value, rel=1e-9)
    assert found["scFID of the road alone, all cells"].value > 3 * abs(found["scFID, all cells"].value)
    assert found["scFID, all cells"].space.startswith("PCA(5) of training cells")
    assert (np.diff(road(real).X.indptr) <= 20).all()


def test_frozen_components_need_the_genes_they_were_fitted_to():
    training = expressed(50, 0)
    embedder = PCAEmbedder.fit(training, n_components=3, n_top_genes=10)
    assert len(embedder.genes) == 10
    assert embedder(training).shape == (50, 3)
    np.testing.assert_allclose(embedder(training)[:1], embedder(training[:1]), rtol=1e-5)
    with pytest.raises(ModelError, match="at least half"):
        embedder(training[:, ~training.var_names.isin(embedder.genes)])
    with pytest.raises(DataError, match="components"):
        PCAEmbedder.fit(training[:3], n_components=3)
