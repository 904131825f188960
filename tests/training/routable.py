"""An untrained CellLM of four layers, and cells whose labels it gives under a plan that is not its own."""

from __future__ import annotations

import functools

import anndata as ad
import numpy as np
import pandas as pd

from c2s.engines.layer_routing import LayerPlan
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.models.cell_lm import CellLM
from c2s.sentences.corpus import CellSentences
from c2s.training.searched_plans import SearchedPlans, cell_hashes
from tests.models.untrained import tiny_transformer, untrained

N_LAYERS = 4
PLANTED = LayerPlan.parse("1011")


@functools.cache
def model() -> CellLM:
    """Return the model; tests leave it as it is."""
    made = untrained()
    made.model = tiny_transformer(len(made.tokens), num_hidden_layers=N_LAYERS)
    return made


def counts(n: int, *, seed: int = 0) -> ad.AnnData:
    """Return random cells of the model's genes, without labels."""
    rng = np.random.default_rng(seed)
    genes = list(model().vocabulary.symbols)
    obs = pd.DataFrame(index=[f"cell{seed}_{i}" for i in range(n)])
    return ad.AnnData(rng.poisson(1.0, (n, len(genes))).astype(np.float32), obs=obs, var=pd.DataFrame(index=genes))


def labelled(n: int, *, seed: int = 0) -> ad.AnnData:
    """Return cells with the labels that the model gives them under :data:`PLANTED`."""
    cells, lm = counts(n, seed=seed), model()
    with lm.routed(PLANTED):
        cells.obs["cell_type"] = lm.annotate(lm.encode(cells))["label"]
    return cells


@functools.cache
def sentences(n: int = 60, *, seed: int = 0) -> CellSentences:
    """Return :func:`labelled` cells, encoded."""
    return model().encode(labelled(n, seed=seed))


@functools.cache
def taught() -> SearchedPlans:
    """Return plans that the first gene of each cell decides, on cells that :func:`sentences` does not hold."""
    cells = sentences(30, seed=7)
    plans = [str(PLANTED if cells.row(i)[0] % 2 else LayerPlan.parse("2110")) for i in range(len(cells))]
    table = pd.DataFrame(
        {"label": cells.obs["cell_type"].to_numpy(), "plan": plans, "candidate": plans}, index=cells.obs.index
    )
    return SearchedPlans(cells, table, "cell_type", fingerprint(model().model), {}, tuple(cell_hashes(cells)))
