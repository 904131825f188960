"""``c2s encode`` and ``c2s decode``: the same result as Python, files where told, errors a user can mend."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from c2s.cli.main import app
from c2s.errors import ArtefactError, ConfigError, DataError
from c2s.sentences.background import Background
from c2s.sentences.corpus import read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode


def cells(n=40, g=30, seed=0):
    counts = sp.csr_matrix(np.random.default_rng(seed).poisson(1.0, (n, g)).astype(np.float32))
    obs = pd.DataFrame({"cell_type": ["B", "T"] * (n // 2)}, index=[f"s{seed}c{i}" for i in range(n)])
    return ad.AnnData(counts, obs, pd.DataFrame(index=[f"GENE{i}" for i in range(g)]))


@pytest.fixture
def folder(tmp_path):
    cells().write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path


def c2s(*arguments):
    """Run a command; an error of ours is raised as itself."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_there_and_back(folder):
    out = c2s("encode", folder / "cells.h5ad", folder / "corpus", "--n-genes", 12, "--fit-decoder")
    assert "40 sentences of" in out
    assert "decoder (gene_aware, fitted to 40 cells of counts)" in out
    sentences, expected = read_sentences(folder / "corpus"), encode(cells(), n_genes=12)
    np.testing.assert_array_equal(sentences.ids, expected.ids)
    assert sentences.encoding == expected.encoding
    assert sentences.obs["cell_type"].tolist() == expected.obs["cell_type"].tolist()
    out = c2s("decode", folder / "corpus", folder / "decoded.h5ad")
    assert "40 cells × 30 genes" in out
    decoded = ad.read_h5ad(folder / "decoded.h5ad")
    np.testing.assert_allclose(decoded.X.toarray(), RankDecoder.fit(cells()).decode(expected).X.toarray(), rtol=1e-6)
    assert decoded.obs_names.tolist() == cells().obs_names.tolist()


def test_held_out_cells_reuse_background_vocabulary_and_decoder(folder):
    c2s("encode", folder / "cells.h5ad", folder / "corpus", "--fit-decoder", "--decoder-model", "log_rank")
    cells(seed=1)[:, ::-1].copy().write_h5ad(folder / "other.h5ad")
    c2s(
        "encode",
        folder / "other.h5ad",
        folder / "test",
        "--background",
        folder / "corpus",
        "--vocabulary",
        folder / "corpus",
    )
    background = Background.read(folder / "corpus")
    sentences = read_sentences(folder / "test")
    assert sentences.background == background
    np.testing.assert_array_equal(sentences.ids, encode(cells(seed=1), background=background).ids)
    c2s("decode", folder / "test", folder / "test.h5ad", "--decoder", folder / "corpus")
    assert ad.read_h5ad(folder / "test.h5ad").uns["c2s_decoder"]["model"] == "log_rank"
    background.write(folder / "background.json")
    c2s("encode", folder / "other.h5ad", folder / "json", "--background", folder / "background.json")
    assert read_sentences(folder / "json").background == background


def test_settings_from_a_file_and_flags_over_it(folder):
    (folder / "settings.toml").write_text('ties = "hash"\nn-genes = 7\nseed = 4\n')
    c2s("encode", folder / "cells.h5ad", folder / "corpus", "--config", folder / "settings.toml", "--seed", 5)
    encoding = read_sentences(folder / "corpus").encoding
    assert (encoding.ties, encoding.n_genes, encoding.seed) == ("hash", 7, 5)
    (folder / "settings.json").write_text('{"n_gene": 7}')
    with pytest.raises(ConfigError, match="sets n_gene, which encode does not have; it has background"):
        c2s("encode", folder / "cells.h5ad", folder / "more", "--config", folder / "settings.json")


def test_dry_run_prints_settings_and_writes_nothing(folder):
    out = c2s("encode", folder / "cells.h5ad", folder / "corpus", "--layer", "raw", "--dry-run")
    assert json.loads(out)["layer"] == "raw"
    assert not (folder / "corpus").exists()
    assert json.loads(c2s("decode", folder / "corpus", folder / "x.h5ad", "--dry-run"))["decoder"] is None


def test_nothing_is_overwritten_by_accident(folder):
    c2s("encode", folder / "cells.h5ad", folder / "corpus", "--fit-decoder")
    with pytest.raises(ArtefactError, match="not empty"):
        c2s("encode", folder / "cells.h5ad", folder / "corpus")
    c2s("encode", folder / "cells.h5ad", folder / "corpus", "--fit-decoder", "--n-genes", 3, "--overwrite")
    assert read_sentences(folder / "corpus").encoding.n_genes == 3
    c2s("decode", folder / "corpus", folder / "d.h5ad")
    with pytest.raises(ArtefactError, match="exists; name another file, or pass --overwrite"):
        c2s("decode", folder / "corpus", folder / "d.h5ad")
    c2s("decode", folder / "corpus", folder / "d.h5ad", "--overwrite")


def test_bad_input(folder):
    with pytest.raises(ArtefactError, match=r"no file .*absent.h5ad"):
        c2s("encode", folder / "absent.h5ad", folder / "a")
    scaled = cells()
    scaled.raw = scaled
    scaled.X = scaled.X.toarray() - 1
    scaled.write_h5ad(folder / "scaled.h5ad")
    with pytest.raises(DataError, match=r"smallest -1\).*Try layer=\"raw\""):
        c2s("encode", folder / "scaled.h5ad", folder / "b")
    c2s("encode", folder / "scaled.h5ad", folder / "c", "--layer", "raw")
    with pytest.raises(ArtefactError, match=r"pass --decoder FOLDER: .*no decoder.json"):
        c2s("decode", folder / "c", folder / "d.h5ad")
    content = (folder / "cells.h5ad").read_bytes()
    (folder / "short.h5ad").write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtefactError, match="truncated"):
        c2s("encode", folder / "short.h5ad", folder / "e")


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_help_has_examples(verb):
    assert f"c2s {verb} " in c2s(verb, "--help")


def test_a_decoder_of_a_vocabulary_is_fitted_to_its_genes(folder):
    rng = np.random.default_rng(1)
    means = rng.gamma(1.0, 2.0, 400) * np.where(np.arange(400) < 240, 1.0, 5.0)  # the genes left out hold most counts
    counts = rng.poisson(means, (300, 400)).astype(np.float32)
    counts[::3, :240] = 0  # every third cell expresses none of the genes kept
    names = [f"G{i}" for i in range(400)]
    whole = ad.AnnData(counts, pd.DataFrame(index=[f"c{i}" for i in range(300)]), pd.DataFrame(index=names))
    whole.write_h5ad(folder / "whole.h5ad")
    part = whole[:, 239::-1].copy()
    part.write_h5ad(folder / "part.h5ad")
    c2s("encode", folder / "part.h5ad", folder / "genes")
    out = c2s(
        "encode", folder / "whole.h5ad", folder / "corpus", "--vocabulary", folder / "genes", "--fit-decoder",
        "--decoder-model", "depth_aware",
    )  # fmt: skip
    assert "160 genes of" in out
    assert "100 sentences are empty" in out
    decoder = RankDecoder.read(folder / "corpus")
    assert decoder.vocabulary.symbols == tuple(part.var_names)
    c2s("decode", folder / "corpus", folder / "decoded.h5ad")
    decoded = ad.read_h5ad(folder / "decoded.h5ad").X.toarray()
    truth = part.X
    kept = np.asarray(truth.sum(axis=1) > 0).ravel()
    truth = np.log1p(truth[kept] / truth[kept].sum(axis=1, keepdims=True) * 1e4)
    expressed = truth > 0
    assert abs((decoded[kept] - truth)[expressed].mean()) < 0.1  # far below with a decoder of all genes


def test_columns_of_any_type_are_decoded(folder):
    adata = cells()
    adata.obs["kept"] = pd.array([True, None] * 20, dtype="boolean")
    adata.obs["count"] = pd.array([1, None] * 20, dtype="Int64")
    adata.write_h5ad(folder / "typed.h5ad")
    c2s("encode", folder / "typed.h5ad", folder / "corpus", "--fit-decoder")
    c2s("decode", folder / "corpus", folder / "decoded.h5ad")
    decoded = ad.read_h5ad(folder / "decoded.h5ad").obs
    assert decoded["kept"].dtype == "boolean"
    assert decoded["count"].tolist()[0] == 1
    assert decoded["count"].isna().sum() == 20
    sentences = encode(cells())
    dates = sentences.with_obs(sentences.obs.assign(day=pd.to_datetime(["2024-01-01", None] * 20)))
    dates.write(folder / "dated")
    c2s("decode", folder / "dated", folder / "dated.h5ad", "--decoder", folder / "corpus")
    assert ad.read_h5ad(folder / "dated.h5ad").obs["day"].iloc[0] == "2024-01-01 00:00:00"


def test_a_model_of_no_decoder(folder):
    with pytest.raises(ConfigError, match="--decoder-model says what --fit-decoder fits"):
        c2s("encode", folder / "cells.h5ad", folder / "corpus", "--decoder-model", "log_rank")
    with pytest.raises(ArtefactError, match="is not a corpus"):
        c2s("decode", folder, folder / "x.h5ad")
