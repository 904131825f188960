"""``c2s annotate`` and ``c2s perturb`` (and ``c2s decode`` of what it wrote) as a user types them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from c2s.models.loading import load_cell_lm
from c2s.sentences.corpus import read_sentences
from c2s.sentences.encode import encode
from tests import tiny


def encoded(model):
    return encode(tiny.simulated().screening, vocabulary=model.vocabulary, background=model.background)


def test_annotate_writes_what_python_returns(c2s, files, tmp_path):
    out = tmp_path / "types.csv"
    ran = c2s("annotate", tiny.annotation_folder(), files / "cells.h5ad", out)
    assert ran.code == 0, ran.err
    assert "8 cells, " in ran.out
    table = pd.read_csv(out, index_col=0)
    model = load_cell_lm(tiny.annotation_folder())
    expected = model.annotate(encoded(model))
    assert table.index.tolist() == expected.index.tolist()
    assert table["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(table.filter(like="p(").sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table["probability"], expected["probability"], atol=1e-6)
    assert "exists; name another file, or pass --overwrite" in c2s("annotate", tiny.annotation_folder(), files / "cells.h5ad", out).error  # fmt: skip
    ran = c2s(
        "annotate", tiny.annotation_folder(), files / "cells.h5ad", out, "--overwrite", "--label", "B cell", "--label", "T",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert [c for c in pd.read_csv(out, index_col=0) if c.startswith("p(")] == ["p(B cell)", "p(T)"]


def test_annotate_with_a_uniform_prior(c2s, files, tmp_path):
    ran = c2s("annotate", tiny.annotation_folder(), files / "cells.h5ad", tmp_path / "t.csv", "--uniform-prior")
    assert ran.code == 0, ran.err
    model = load_cell_lm(tiny.annotation_folder())
    expected = model.annotate(encoded(model), prior="uniform")
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "t.csv", index_col=0)["probability"], expected["probability"], atol=1e-6
    )


@pytest.mark.parametrize("file", ["types.csv"])
def test_annotate_mistakes(c2s, files, tmp_path, file):
    out = tmp_path / file
    assert "trained on perturbation_response, not on cell_type_annotation" in c2s(
        "annotate", tiny.run_folder(), files / "cells.h5ad", out
    ).error  # fmt: skip
    one = c2s("annotate", tiny.annotation_folder(), files / "cells.h5ad", out, "--label", "B cell")
    assert "at least two different names" in one.error
    prior = ("--uniform-prior", "--label", "B cell", "--label", "elf")
    assert "'elf'" in c2s("annotate", tiny.annotation_folder(), files / "cells.h5ad", out, *prior).error
    assert "not a c2s model" in c2s("annotate", tmp_path, files / "cells.h5ad", out).error
    assert not out.exists()


def test_perturb_writes_what_python_returns_and_decode_reads_it(c2s, files, tmp_path):
    ran = c2s(
        "perturb", "predict", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path / "after", "--n-samples", 2, "--seed", 3,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = len(tiny.simulated().library)
    assert f"{16 * rows} sentences (8 cells × {rows} perturbations × 2)" in ran.out
    model = load_cell_lm(tiny.run_folder())
    expected = model.perturb(encoded(model), tiny.simulated().library, n_samples=2, seed=3)
    after = read_sentences(tmp_path / "after")
    np.testing.assert_array_equal(after.ids, expected.ids)
    assert after.obs["perturbation"].tolist() == expected.obs["perturbation"].tolist()
    ran = c2s("decode", tmp_path / "after", tmp_path / "after.h5ad", "--decoder", tiny.run_folder() / "model")
    assert ran.code == 0, ran.err
    decoded = ad.read_h5ad(tmp_path / "after.h5ad")
    assert decoded.shape == (16 * rows, 300)
    assert decoded.X.min() >= 0


def test_perturb_mistakes(c2s, files, tmp_path):
    out = tmp_path / "after"
    error = c2s("perturb", "predict", tiny.annotation_folder(), files / "cells.h5ad", files / "drugs.csv", out).error
    assert "c2s train --task perturbation_response" in error
    assert (
        "cannot read the library"
        in c2s("perturb", "predict", tiny.run_folder(), files / "cells.h5ad", files / "no.csv", out).error
    )
    cells = tiny.simulated().screening.copy()
    del cells.obs["ifn"]
    cells.write_h5ad(tmp_path / "untagged.h5ad")
    assert "obs has no column 'ifn'" in c2s("perturb", "predict", tiny.run_folder(), tmp_path / "untagged.h5ad", files / "drugs.csv", out).error  # fmt: skip
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        ran = c2s(
            "perturb", "predict", tiny.run_folder(), files / "cells.h5ad", files / "drugs.csv", tmp_path / "full", *more
        )
        assert ran.error
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("verb", ["annotate", "perturb predict", "perturb evaluate"])
def test_help_has_an_example(c2s, verb):
    words = verb.split()
    ran = c2s(*words, "--help")
    assert ran.code == 0
    assert f"c2s {verb} runs/" in " ".join(ran.out.split())


def test_embed_writes_vectors_of_either_model(c2s, files, tmp_path):
    from tests.models.texts import byte_level, transformer

    model = load_cell_lm(tiny.annotation_folder())
    expected = model.embed(encoded(model))
    ran = c2s("embed", tiny.annotation_folder(), files / "cells.h5ad", tmp_path / "e.h5ad")
    assert ran.code == 0, ran.err
    found = ad.read_h5ad(tmp_path / "e.h5ad")
    np.testing.assert_allclose(found.obsm["X_c2s"], expected, atol=1e-5)
    ran = c2s("embed", tiny.annotation_folder(), files / "cells.h5ad", tmp_path / "e.parquet", "--pooling", "last")
    assert ran.code == 0, ran.err
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert table["cell"].tolist() == found.obs_names.tolist()
    np.testing.assert_allclose(np.stack(table["vector"]), model.embed(encoded(model), pooling="last"), atol=1e-5)
    tokenizer = byte_level()
    transformer("llama", len(tokenizer)).save_pretrained(tmp_path / "words")
    tokenizer.save_pretrained(tmp_path / "words")
    ran = c2s("encode", files / "cells.h5ad", tmp_path / "corpus")
    assert ran.code == 0, ran.err
    ran = c2s(
        "embed", tmp_path / "words", tmp_path / "corpus", tmp_path / "w.parquet", "--n-genes", 20, "--hidden-layer", 1
    )
    assert ran.code == 0, ran.err
    assert len(pd.read_parquet(tmp_path / "w.parquet")) == len(table)
    refused = c2s("embed", tmp_path / "words", tmp_path / "corpus", tmp_path / "x.parquet", "--layer", "raw")
    assert "--layer is for .h5ad files" in refused.error
    assert "name it .parquet" in c2s("embed", tmp_path / "words", tmp_path / "corpus", tmp_path / "w.csv").error
    ran = c2s(
        "annotate",
        tmp_path / "words",
        files / "cells.h5ad",
        tmp_path / "w.csv",
        "--label",
        "B",
        "--label",
        "T",
        "--n-genes",
        20,
    )
    assert ran.code == 0, ran.err
    assert set(pd.read_csv(tmp_path / "w.csv", index_col=0)["label"]) <= {"B", "T"}
    assert "pass --label" in c2s("annotate", tmp_path / "words", files / "cells.h5ad", tmp_path / "x.csv").error


def test_annotate_calibrated_and_by_cluster(c2s, files, tmp_path):
    from c2s.models.calibration import Calibration

    Calibration(2.0, 0.999, 10, 1.0, 0.1).write(tmp_path / "c.json")
    cells = ad.read_h5ad(files / "cells.h5ad")
    cells.obs["group"] = np.where(np.arange(cells.n_obs) % 2, "odd", "even")
    cells.write_h5ad(tmp_path / "grouped.h5ad")
    ran = c2s(
        "annotate", tiny.annotation_folder(), tmp_path / "grouped.h5ad", tmp_path / "t.csv", "--calibration", tmp_path / "c.json",
        "--clusters", "group",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    model = load_cell_lm(tiny.annotation_folder())
    expected = Calibration.read(tmp_path / "c.json").apply(model.annotate(encoded(model)))
    found = pd.read_csv(tmp_path / "t.csv", index_col=0)
    assert found["label"].tolist() == expected["label"].tolist()
    assert "unknown" in set(found["label"])
    clusters = pd.read_csv(tmp_path / "t.clusters.csv", index_col=0)
    assert clusters.index.tolist() == ["even", "odd"]
    assert "obs has no column" in c2s(
        "annotate", tiny.annotation_folder(), tmp_path / "grouped.h5ad", tmp_path / "u.csv", "--clusters", "leiden"
    ).error  # fmt: skip
