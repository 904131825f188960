"""A simulated cytokine screen of singles and pairs with a known truth: pathways, synergy and antagonism, cells that do not respond.

Counts are negative binomial. A cytokine acts through its receptor on a strong and a weak pathway; pathways act on one another within a cell, so
what a pair does follows from its pathways and can be learnt from other pairs, and is not the sum of what its parts do. All numbers below were fixed
before any model was run on these cells. Names are made up, and which receptor belongs to which pathway is drawn anew for every seed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.library import Perturbation, combined
from c2s.cells.simulate import CELL_TYPES, made_up_names, simulated_genes
from c2s.errors import ConfigError

EXPOSURES = ("acute", "chronic")
UNTREATED = Perturbation("medium", role="vehicle")
KEYS = ("cell_type", "exposure")
N_PATHWAYS, CYTOKINES_EACH = 4, 2
PATHWAY_GENES, STATE_GENES, MARKER_GENES = 10, 12, 6  # markers of each cell type
LOG_FOLD = float(np.log(3.0))  # of a gene at activation 1
WEAK = 0.35  # of a cytokine's second pathway, against about 1 of its first
RISING = 0.7  # share of a pathway's genes that rise; the others fall
# (acting, acted on): factor on the activation of the second where the first is on; pairs left out add up
INTERACTIONS = {(0, 1): 1.8, (1, 0): 1.4, (2, 3): 0.25, (3, 2): 0.5, (0, 2): 0.4, (1, 3): 1.6}
OF_EXPOSURE = {
    "acute": (1.0, 1.0, 1.0, 1.0),
    "chronic": (0.5, 1.0, 1.3, 0.8),
}  # of each pathway: tolerance and priming
RESPONDS = (0.8, 2.0)  # logit of a cell's response: first + second * state
DEPTH, DISPERSION = 800.0, 8.0


@dataclass(frozen=True)
class CytokineScreen:
    """Everything a simulated cytokine screen holds.

    Attributes
    ----------
    cells : AnnData
        Raw counts. ``obs``: ``cytokine``, ``cell_type``, ``exposure``, ``tier`` (``train``, or the tier its condition is held out in; of
        untreated cells ``train`` or ``test``), and, of the truth, ``state`` and ``responds``. ``var``: ``part`` of each gene.
    library : list of Perturbation
        Untreated, singles, pairs.
    held_out : DataFrame
        A row a held-out condition: ``cytokine``, ``cell_type``, ``exposure``, ``tier``.
    interactions : DataFrame
        A row a pair: ``cytokine``, ``kind`` (synergy, antagonism, additive) by the mean of the log fold changes beyond the sum of the singles,
        and that ``excess``.
    """

    cells: ad.AnnData
    library: list[Perturbation]
    held_out: pd.DataFrame
    interactions: pd.DataFrame


def simulate_cytokines(
    seed: int = 0,
    *,
    n_genes: int = 160,
    training_cells: int = 48,
    test_cells: int = 128,
    untreated_cells: int = 192,
    mean_shift: bool = False,
) -> CytokineScreen:
    """Return a simulated screen of 8 cytokines and all their 28 pairs, in three cell types and two exposures.

    Three tiers of pairs are held out, as in the cytokine study of C2S-Scale: *pair* (4 pairs, one of each of four pairs of pathways, nowhere seen),
    *pair in a cell type* (two more in each type, in both exposures), *pair in one exposure* (four more in each type, in one exposure).

    Parameters
    ----------
    seed : int
        Decides everything: pathways, strengths, what is held out, counts.
    n_genes : int
        At least 150.
    training_cells, test_cells : int
        Of a treated condition.
    untreated_cells : int
        Of a cell type and exposure, for training and again for the test.
    mean_shift : bool
        A world in which every cell responds by the sum of the singles' log fold changes: no interactions, no cells that do not respond. Control
        cells moved by the sum of the mean changes are then the truth, but for what the logarithm of few counts bends.

    Raises
    ------
    ConfigError
        Too few genes or cells.
    """
    if min(training_cells, test_cells, untreated_cells) < 2 or n_genes < 150:
        msg = f"{n_genes} genes, {training_cells}, {test_cells} and {untreated_cells} cells: at least 150 genes and 2 cells of each kind are needed"
        raise ConfigError(msg)
    rng = np.random.default_rng([seed, 20260611])
    genes = _genes(n_genes, rng)
    weights, library = _cytokines(genes, rng)
    of_type = rng.uniform(0.7, 1.2, size=(len(CELL_TYPES), N_PATHWAYS))
    held_out = _held_out(library, rng)
    tiers = {(row.cytokine, row.cell_type, row.exposure): row.tier for row in held_out.itertuples()}
    rows = []
    for perturbation, cell_type, exposure in itertools.product(library, CELL_TYPES, EXPOSURES):
        tier = tiers.get((perturbation.name, cell_type, exposure), "train")
        if perturbation.role == "vehicle":
            parts = [("train", untreated_cells), ("test", untreated_cells)]
        else:
            parts = [(tier, training_cells if tier == "train" else test_cells)]
        rows += [(perturbation.name, cell_type, exposure, part) for part, n in parts for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["cytokine", *KEYS, "tier"])
    obs["state"] = rng.normal(size=len(obs))
    chance = 1.0 / (1.0 + np.exp(-(RESPONDS[0] + RESPONDS[1] * obs["state"])))
    obs["responds"] = np.ones(len(obs), dtype=bool) if mean_shift else rng.random(len(obs)) < chance
    activation = {
        (p.name, t, e): _activation(p, t, e, weights, of_type, interacting=not mean_shift)
        for p, t, e in itertools.product(library, range(len(CELL_TYPES)), EXPOSURES)
    }
    cells = _counts(obs, genes, activation, rng)
    return CytokineScreen(cells, library, held_out, _interactions(library, activation))


def _genes(n_genes: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return symbols, parts, signs of response and baselines; module genes are drawn from the background."""
    known = simulated_genes(640)
    receptors = rng.permutation(known.loc[known["part"] == "target", "symbol"].to_numpy())[
        : N_PATHWAYS * CYTOKINES_EACH
    ]
    others = rng.permutation(known.loc[known["part"] == "background", "symbol"].to_numpy())[: n_genes - len(receptors)]
    parts = [f"pathway {p + 1}" for p in range(N_PATHWAYS) for _ in range(PATHWAY_GENES)] + ["state"] * STATE_GENES
    parts += [f"marker {t}" for t in CELL_TYPES for _ in range(MARKER_GENES)]
    parts += ["background"] * (len(others) - len(parts)) + ["receptor"] * len(receptors)
    found = pd.DataFrame({"symbol": [*others, *receptors], "part": parts})
    base = rng.normal(-0.5, 1.6, size=len(found))
    module = found["part"].str.startswith("pathway").to_numpy()
    base[module] = rng.normal(0.3, 0.4, size=int(module.sum()))
    base[(found["part"] == "state").to_numpy()] = rng.normal(0.5, 0.4, size=STATE_GENES)
    base[found["part"].str.startswith("marker").to_numpy()] = -1.0
    base[(found["part"] == "receptor").to_numpy()] = -0.5
    sign = np.zeros(len(found))
    for pathway in range(N_PATHWAYS):
        rows = np.flatnonzero(found["part"] == f"pathway {pathway + 1}")
        sign[rows] = np.where(np.arange(len(rows)) < round(RISING * len(rows)), 1.0, -1.0)
    return found.assign(base=base, sign=sign)


def _cytokines(genes: pd.DataFrame, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], list[Perturbation]]:
    """Return each cytokine's weight on every pathway, and the library: untreated, singles, pairs."""
    names = made_up_names(N_PATHWAYS * CYTOKINES_EACH, rng, taken=set(), syllables=2)
    receptors = genes.loc[genes["part"] == "receptor", "symbol"].tolist()
    weights = {}
    for place, name in enumerate(names):
        strong = place % N_PATHWAYS
        weak = int(rng.choice([p for p in range(N_PATHWAYS) if p != strong]))
        weights[name] = np.zeros(N_PATHWAYS)
        weights[name][strong] = rng.uniform(0.8, 1.2)
        weights[name][weak] = WEAK
    singles = [Perturbation(name, targets=(receptor,)) for name, receptor in zip(names, receptors)]
    return weights, [UNTREATED, *singles, *(combined(one, other) for one, other in itertools.combinations(singles, 2))]


def _held_out(library: list[Perturbation], rng: np.random.Generator) -> pd.DataFrame:
    """Return the held-out conditions; of pairs on the same two pathways, at most one is held out everywhere."""
    place = {p.name: i % N_PATHWAYS for i, p in enumerate(p for p in library if p.role != "vehicle" and not p.parts)}
    pairs = [p for p in library if p.parts]
    by_pathways: dict[tuple[int, int], list[str]] = {}
    for pair in pairs:
        one, other = sorted(place[name] for name in pair.parts)
        if one != other:
            by_pathways.setdefault((one, other), []).append(pair.name)
    kinds = rng.permutation(len(by_pathways))
    chosen = [list(by_pathways.values())[kind] for kind in kinds]
    everywhere = [str(rng.choice(names)) for names in chosen[:4]]
    left = [str(name) for name in rng.permutation([pair.name for pair in pairs if pair.name not in everywhere])]
    rows = [(name, t, e, "pair") for name in everywhere for t in CELL_TYPES for e in EXPOSURES]
    for number, cell_type in enumerate(CELL_TYPES):
        own = left[6 * number : 6 * number + 6]
        rows += [(name, cell_type, e, "pair in a cell type") for name in own[:2] for e in EXPOSURES]
        rows += [(name, cell_type, EXPOSURES[i % 2], "pair in one exposure") for i, name in enumerate(own[2:])]
    return pd.DataFrame(rows, columns=["cytokine", *KEYS, "tier"])


def _activation(
    perturbation: Perturbation, cell_type: int, exposure: str, weights: dict[str, np.ndarray], of_type: np.ndarray, *, interacting: bool
) -> np.ndarray:  # fmt: skip
    """Return the activation of each pathway, shape (4,): parts add up, then pathways act on one another."""
    own = [weights[name] for name in perturbation.single if name in weights]
    total = np.sum(own, axis=0) if own else np.zeros(N_PATHWAYS)
    if interacting and len(own) > 1:
        factor = np.ones(N_PATHWAYS)
        for (
            acting,
            on,
        ), times in INTERACTIONS.items():  # full effect from an activation of 0.8, none of a weak one alone
            factor[on] *= times ** float(np.clip((total[acting] - WEAK) / (0.8 - WEAK), 0.0, 1.0))
        total = total * factor
    return total * of_type[cell_type] * np.array(OF_EXPOSURE[exposure])


def _counts(
    obs: pd.DataFrame, genes: pd.DataFrame, activation: dict[tuple[str, int, str], np.ndarray], rng: np.random.Generator
) -> ad.AnnData:
    """Draw negative-binomial counts; depth is that of the untreated cell, log-normal with sd 0.2."""
    types = obs["cell_type"].map({name: i for i, name in enumerate(CELL_TYPES)}).to_numpy()
    part = genes["part"].to_numpy()
    log_rate = np.tile(genes["base"].to_numpy(), (len(obs), 1))
    for number, name in enumerate(CELL_TYPES):
        log_rate[np.ix_(types == number, part == f"marker {name}")] += 2.5
    log_rate[:, part == "state"] += 0.6 * obs["state"].to_numpy()[:, None]
    size = DEPTH * np.exp(rng.normal(0.0, 0.2, size=(len(obs), 1))) / np.exp(log_rate).sum(axis=1, keepdims=True)
    on = (
        np.stack([activation[key] for key in zip(obs["cytokine"], types, obs["exposure"])])
        * obs["responds"].to_numpy()[:, None]
    )
    for pathway in range(N_PATHWAYS):
        chosen = part == f"pathway {pathway + 1}"
        log_rate[:, chosen] += LOG_FOLD * on[:, [pathway]] * genes["sign"].to_numpy()[chosen]
    rate = size * np.exp(log_rate)
    counts = rng.poisson(rate * rng.gamma(DISPERSION, 1.0 / DISPERSION, size=rate.shape)).astype(np.float32)
    frame = obs.set_axis([f"cell{i:06d}" for i in range(len(obs))])
    var = pd.DataFrame({"part": part}, index=pd.Index(genes["symbol"], name=None))
    return ad.AnnData(sp.csr_matrix(counts), obs=frame, var=var)


def _interactions(library: list[Perturbation], activation: dict[tuple[str, int, str], np.ndarray]) -> pd.DataFrame:
    """Return what each pair does beyond the sum of its parts: the mean over contexts of the summed activation in excess."""
    rows = []
    contexts = list(itertools.product(range(len(CELL_TYPES)), EXPOSURES))
    for pair in (p for p in library if p.parts):
        excess = float(
            np.mean(
                [
                    (activation[pair.name, t, e] - sum(activation[name, t, e] for name in pair.parts)).sum()
                    for t, e in contexts
                ]
            )
        )
        kind = "additive" if abs(excess) < 0.1 else "synergy" if excess > 0 else "antagonism"
        rows.append((pair.name, kind, excess))
    return pd.DataFrame(rows, columns=["cytokine", "kind", "excess"])
