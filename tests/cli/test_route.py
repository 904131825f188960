"""``c2s route`` and ``--routing`` as a user types them, from cells to a heat map."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from c2s.engines.layer_routing import Router
from c2s.errors import ConfigError, ModelError
from c2s.models.diffusion_lm import DiffusionLM
from c2s.models.loading import load_cell_lm, load_model
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.training.searched_plans import SearchedPlans
from tests.models.untrained import LABELS, tiny_transformer, untrained
from tests.training import routable

SEARCH = ("--n-cells", 6, "--budget", 8, "--n-fresh", 6, "--candidates", 2, "--pool", 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with ``model``, ``training.h5ad``, ``test.h5ad`` and an untrained ``router``."""
    made = tmp_path_factory.mktemp("route")
    routable.model().save(made / "model")
    routable.labelled(60).write_h5ad(made / "training.h5ad")
    routable.labelled(20, seed=3).write_h5ad(made / "test.h5ad")
    router = Router(routable.N_LAYERS, 32, windows=2, bottleneck=4, seed=2)
    router.skip_shift = 2.0
    router.save(made / "router")
    return made


def test_from_cells_to_a_table_and_a_picture(c2s, folder, tmp_path):
    model, training, test = (folder / name for name in ("model", "training.h5ad", "test.h5ad"))
    plans, router, scores = (tmp_path / name for name in ("plans", "router", "scores"))
    ran = c2s("route", "search", model, training, plans, *SEARCH)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("6 cells, ")
    assert "of 4 layers on average → " in ran.out
    searched = SearchedPlans.read(plans)
    assert searched.config["budget"] == 8
    assert "is not empty; name another folder, or pass --overwrite" in c2s("route", "search", model, training, plans, *SEARCH).error  # fmt: skip
    assert c2s("route", "search", model, training, plans, *SEARCH, "--overwrite", "--method", "random").code == 0
    assert SearchedPlans.read(plans).config["method"] == "random"

    ran = c2s("route", "train", model, plans, router, "--epochs", 2, "--bottleneck", 4)
    assert ran.code == 0, ran.err
    assert "6 cells: taught " in ran.out
    assert Router.load(router).base == searched.base

    ran = c2s(
        "route", "evaluate", model, test, router, scores, "--search", plans, "--rounds", 1, "--draws", 1, "--timed", 4
    )
    assert ran.code == 0, ran.err
    assert "| model as it is | " in ran.out
    assert (scores / "decisions.png").is_file()
    assert len(json.loads((scores / "results.json").read_text())["results"]) == 6
    assert c2s("route", "evaluate", model, test, router, scores, "--search", plans, "--rounds", 1, "--draws", 0, "--timed", 4, "--overwrite").code == 0  # fmt: skip


def test_routing_of_annotate_and_generate_is_that_of_python(c2s, folder, tmp_path):
    lm = load_model(folder / "model", routing=folder / "router")
    cells = lm.encode(routable.labelled(20, seed=3))
    ran = c2s(
        "annotate", folder / "model", folder / "test.h5ad", tmp_path / "types.csv", "--routing", folder / "router"
    )
    assert ran.code == 0, ran.err
    expected = lm.annotate(cells)
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "types.csv", index_col=0)["probability"], expected["probability"], atol=1e-6
    )
    assert lm.routing_cost.share < 1
    assert lm.cost() in ran.out
    ran = c2s("generate", folder / "model", tmp_path / "cells", "--n", 3, "--condition", "cell_type=B cell", "--routing", folder / "router")  # fmt: skip
    assert ran.code == 0, ran.err
    lm.generate(n=3, cell_type="B cell")
    assert "token-layers" in lm.cost()
    assert lm.cost() in ran.out
    assert "token-layers" not in c2s("generate", folder / "model", tmp_path / "plain", "--n", 3, "--condition", "cell_type=B cell").out  # fmt: skip


def test_routers_that_a_model_cannot_take(c2s, folder, tmp_path):
    router = Router.load(folder / "router")
    assert load_cell_lm(folder / "model", routing=router).routing is router
    untrained().save(tmp_path / "two")
    router.base = "0" * 16
    with pytest.raises(ModelError, match="was trained on weights 0000000000000000; these are"):
        load_cell_lm(folder / "model", routing=router)
    with pytest.raises(ModelError, match="the router is of 4 layers of width 32; the model has 2 of width 32"):
        load_cell_lm(tmp_path / "two", routing=folder / "router")
    with pytest.raises(ConfigError, match="nowhere is none, leave routing out"):
        load_model("nowhere", routing=folder / "router")
    lm = routable.model()
    tokens = PartTokenizer(build_tokenizer(lm.vocabulary, LABELS, n_pieces=280, with_mask=True), lm.vocabulary)
    model, settings = (
        tiny_transformer(len(tokens), num_hidden_layers=4),
        lm.settings.with_(objective="masked_diffusion"),
    )
    DiffusionLM(model, tokens, lm.background, settings, decoder=lm.decoder).save(tmp_path / "masked")
    said = c2s("generate", tmp_path / "masked", tmp_path / "out", "--condition", "cell_type=B cell", "--routing", folder / "router")  # fmt: skip
    assert "layer routing needs a model that foretells the next token; this one was trained with" in said.error
    said = c2s(
        "annotate", folder / "model", folder / "test.h5ad", tmp_path / "t.csv", "--routing", tmp_path / "none"
    ).error
    assert "router.json" in said


@pytest.mark.parametrize(("arguments", "message"), [
    (("search", "model", "training.h5ad", "model"), "is or holds"),
    (("search", "model", "training.h5ad", "out", "--n-fresh", 2), "--n-fresh 2 must be below --pool 200, and at least 7 to test"),
    (("search", "model", "training.h5ad", "out", "--labels-key", "type"), "obs has no column 'type'"),
    (("train", "model", "router", "out"), "plans.json"),
    (("evaluate", "model", "test.h5ad", "router", "out", "--search", "router", "--depth", "9;10"), "--depth 9;10: write mean layers"),
    (("evaluate", "model", "test.h5ad", "plans", "out", "--search", "router"), "router.json"),
])  # fmt: skip
def test_mistakes_are_named_before_any_work(c2s, folder, tmp_path, arguments, message):
    verb, *rest = arguments
    names = {each.name for each in folder.iterdir()} | {"plans"}
    told = [folder / each if each in names else tmp_path / each if each == "out" else each for each in rest]
    ran = c2s("route", verb, *told)
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "out").exists()
