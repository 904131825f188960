"""What is foretold, from what: worlds with a training set, held-out conditions in named tiers, and the road all cells come."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import c2s
from c2s.cells.gene_sets import read_gmt
from c2s.cells.library import Perturbation
from c2s.cells.simulate_cytokines import simulate_cytokines
from c2s.metrics import SentenceRoad
from c2s.sentences.background import Background

DATA = "C2S_DATA_DIR"
# few cells of a type, many genes that respond; two conditions, of which none can be held out for the choice of steps
OF_KANG = {"n_treated": 12, "n_controls": 12, "n_up": 60, "n_down": 40, "n_genes": 16, "steps": 600}


@dataclass(frozen=True)
class World:
    """One seed of a world.

    Attributes
    ----------
    training : AnnData
        Counts: perturbed cells and controls.
    test : AnnData
        Counts: perturbed cells of held-out conditions, and controls of their contexts that were not trained on where there are any.
    tiers : Series
        Tier of each test cell; "control" for controls.
    library : list of Perturbation
    keys : dict
        ``perturbation_key``, ``control``, ``context_keys``.
    off_programme : list of str
        Genes that the response is not about.
    kinds : dict of str to str
        Of combinations whose truth is known: synergy, antagonism or additive.
    training_settings : dict
        Of the model, where they differ from the usual ones.
    """

    training: ad.AnnData
    test: ad.AnnData
    tiers: pd.Series
    library: list[Perturbation]
    keys: dict[str, object]
    off_programme: list[str]
    kinds: dict[str, str]
    training_settings: dict[str, int | float]

    @functools.cached_property
    def road(self) -> SentenceRoad:
        """Encoded and decoded as a model trained on the training cells would write them."""
        background = Background.fit(self.training)
        return SentenceRoad(
            c2s.RankDecoder.fit(self.training, background=background), background.vocabulary, background
        )


def cytokines(seed: int, *, mean_shift: bool = False) -> World:
    """Return the simulated screen of cytokines and their pairs."""
    made = simulate_cytokines(seed, mean_shift=mean_shift)
    tier = made.cells.obs["tier"].astype(str)
    training, test = (made.cells[(side).to_numpy()].copy() for side in (tier == "train", tier != "train"))
    tiers = test.obs["tier"].astype(str).replace("test", "control")
    for part in (training, test):
        part.obs = part.obs.drop(columns=["tier", "state", "responds"])
    keys = {"perturbation_key": "cytokine", "control": "medium", "context_keys": ("cell_type", "exposure")}
    off = list(made.cells.var_names[~made.cells.var["part"].str.startswith("pathway")])
    kinds = {} if mean_shift else dict(zip(made.interactions["cytokine"], made.interactions["kind"]))
    return World(training, test, tiers, made.library, keys, off, kinds, {})


def kang(seed: int, *, split: str) -> World:
    """Return Kang's interferon-β cells (muscat's subset, two donors, five types), one donor or one cell type after the other held out.

    The seed says which: donors in turn; types in turn.
    """
    place = os.environ.get(DATA)
    if not place:
        msg = f"set {DATA} to the folder that holds kang_ifnb/ and gene_sets/"
        raise SystemExit(msg)
    cells = ad.read_h5ad(Path(place) / "kang_ifnb" / "kang_muscat_counts.h5ad")
    stim = cells.obs["group_id"].astype(str).to_numpy()
    donor = cells.obs["sample_id"].astype(str).str.replace(r"^(ctrl|stim)", "", regex=True).to_numpy()
    kinds = cells.obs["cluster_id"].astype(str).to_numpy()
    cells.obs = pd.DataFrame({"given": stim, "cell_type": kinds, "donor": donor}, index=cells.obs_names.astype(str))
    groups = donor if split == "donor" else kinds
    names = sorted(set(groups))
    held = groups == names[seed % len(names)]
    is_control = stim == "ctrl"
    # of a held-out type, untreated cells are known; of a held-out donor, none is
    known = ~held | (is_control if split == "cell type" else np.zeros(len(held), dtype=bool))
    training, test = cells[known].copy(), cells[held].copy()
    tiers = pd.Series(np.where(test.obs["given"] == "ctrl", "control", f"unseen {split}"), index=test.obs_names)
    library = [Perturbation("ctrl", role="vehicle"), Perturbation("stim", targets=("IFNAR1", "IFNAR2"), mechanism="interferon beta")]  # fmt: skip
    sets = read_gmt(Path(place) / "gene_sets" / "human_hallmark_v2025.gmt.gz")
    interferon = {gene for name, genes in sets.items() if "INTERFERON" in name for gene in genes}
    keys = {"perturbation_key": "given", "control": "ctrl", "context_keys": ("cell_type",)}
    return World(
        training, test, tiers, library, keys, [gene for gene in cells.var_names if gene not in interferon], {}, OF_KANG
    )


WORLDS: dict[str, Callable[[int], World]] = {
    "cytokines": cytokines,
    "cytokines, mean shift": functools.partial(cytokines, mean_shift=True),
    "kang, unseen donor": functools.partial(kang, split="donor"),
    "kang, unseen cell type": functools.partial(kang, split="cell type"),
}
