"""A simulated drug screen with a known truth: cells, drugs and planted response classes over real gene symbols.

Counts are negative binomial. A drug acts through its first target, each target belongs to one response class, and the
assignment of targets to classes is drawn anew for every seed, so nothing about a real drug or gene can be read from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.cells.library import Perturbation, library_frame
from c2s.errors import ConfigError

CLASSES = ("inert", "activator", "amplifier", "repressor", "off_programme", "floor", "ceiling")
CONTEXTS = ("low", "none")
VEHICLE = Perturbation("DMSO", mechanism="solvent", role="vehicle")
CELL_TYPES = ("CD4 T cell", "B cell", "CD14 monocyte")
FLOOR_GENES = ("NLRC5", "ERAP2", "PSMB10")
CEILING_GENES = ("B2M", "HLA-B", "HLA-C")
MECHANISMS = ("inhibitor", "agonist", "antagonist", "degrader", "blocker", "modulator")
_SYLLABLES = [c + v for c in "bcdfglmnprstvz" for v in "aeiou"]


@dataclass
class SimulatedScreen:
    """Everything a simulated screen holds.

    Attributes
    ----------
    training : AnnData
        Raw counts of vehicle and drug-treated cells of the training donors; ``obs`` has ``drug``, ``ifn``, ``donor``
        and ``cell_type``.
    screening : AnnData
        Untreated cells of other donors, same columns without ``drug``.
    training_library : list of Perturbation
        Vehicle and training drugs.
    library : list of Perturbation
        Vehicle, four positive controls seen in training and the held-out drugs.
    truth : DataFrame
        Per drug: ``planted_class``, ``potency``, ``target_seen``, ``held_out``.
    programme : tuple of str
        The programme's genes.
    """

    training: ad.AnnData
    screening: ad.AnnData
    training_library: list[Perturbation]
    library: list[Perturbation]
    truth: pd.DataFrame
    programme: tuple[str, ...]
    contexts: tuple[str, str] = CONTEXTS
    seed: int = 0

    def library_frame(self) -> pd.DataFrame:
        """Return the screening library as a table."""
        return library_frame(self.library)


def simulated_genes(n_genes: int) -> pd.DataFrame:
    """Return ``n_genes`` rows of ``symbol`` and ``part`` (programme, interferon, marker, stress, target, background)."""
    path = resources.files("c2s.cells") / "data" / "simulated_genes.csv"
    with path.open(encoding="utf-8") as handle:
        genes = pd.read_csv(handle)
    fixed = int((genes["part"] != "background").sum())
    if not fixed + 50 <= n_genes <= len(genes):
        msg = f"n_genes is {n_genes}; the simulation needs {fixed + 50} to {len(genes)}"
        raise ConfigError(msg)
    return genes.iloc[:n_genes].reset_index(drop=True)


def made_up_names(n: int, rng: np.random.Generator, *, taken: set[str], syllables: int = 3) -> list[str]:
    """Return ``n`` pronounceable drug names that nobody uses, none of them in ``taken`` (which is extended)."""
    names: list[str] = []
    while len(names) < n:
        name = "".join(rng.choice(_SYLLABLES, size=syllables)) + str(rng.choice(["nib", "tin", "mab", "zol", "fen"]))
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names


def simulate_screen(
    seed: int = 0,
    *,
    n_genes: int = 640,
    training_drugs: int = 60,
    held_out_per_class: int = 12,
    unseen_per_class: int = 2,
    cells_per_condition: int = 96,
    training_donors: int = 6,
    screening_donors: int = 6,
    screening_cells: int = 8,
    fold_change: float = 3.0,
) -> SimulatedScreen:
    """Return a simulated screen.

    Classes, all in terms of the log fold change ``a = potency * log(fold_change)``: *inert* nothing; *activator*
    raises the programme's ordinary genes by ``a`` in both contexts; *amplifier* only in ``ifn == "low"``; *repressor*
    lowers them by ``a`` in both; *off_programme* raises stress genes in both; *floor* raises, in both contexts, three
    programme genes that are all but silent in ``"none"``; *ceiling* raises, in both, three programme genes that
    already stand at the top of the sentence in ``"none"``. Floor and ceiling drugs are unconditional and only look
    conditional through a ranked sentence.

    Parameters
    ----------
    seed : int
        Decides everything: classes of targets, names, baselines, counts.
    n_genes, training_drugs, held_out_per_class, unseen_per_class, training_donors, screening_donors : int
        Sizes. ``unseen_per_class`` of the held-out drugs of each class act through targets never seen in training.
    cells_per_condition : int
        Treated training cells per drug and context; vehicle has ten times as many.
    screening_cells : int
        Screened cells per donor and context.
    fold_change : float
        Fold change of an affected gene at potency 1.

    Returns
    -------
    SimulatedScreen
    """
    rng = np.random.default_rng([seed, 20250415])
    genes = simulated_genes(n_genes)
    log_mean = _baselines(genes, rng)
    targets_seen, targets_unseen = _assign_targets(genes, rng)
    taken: set[str] = set()
    training_library, rows = _make_drugs(targets_seen, training_drugs, rng, taken, held_out=False)
    per_class = [held_out_per_class - unseen_per_class] * len(CLASSES)
    held_out, more = _make_drugs(targets_seen, sum(per_class), rng, taken, held_out=True)
    rows += more
    if unseen_per_class:
        novel, more = _make_drugs(targets_unseen, unseen_per_class * len(CLASSES), rng, taken, held_out=True)
        held_out += novel
        rows += more
    truth = pd.DataFrame(rows).set_index("perturbation", drop=False)
    truth["target_seen"] = truth["target"].isin(truth.loc[~truth["held_out"], "target"])

    effects = _drug_effects(genes, truth, np.log(fold_change))
    donors = rng.normal(0.0, 0.15, size=(training_donors + screening_donors, n_genes))
    design = _training_design([VEHICLE, *training_library], cells_per_condition, training_donors, rng)
    training = _counts(design, genes, log_mean, donors, effects, rng)
    screen_design = _screening_design(training_donors, screening_donors, screening_cells)
    screening = _counts(screen_design, genes, log_mean, donors, effects, rng)
    del screening.obs["drug"]
    chosen = {"activator": 2, "floor": 1, "ceiling": 1}  # training drugs that show what each context can show
    positive = [
        drug.with_role("positive_control")
        for planted, n in chosen.items()
        for drug in [d for d in training_library if truth.loc[d.name, "planted_class"] == planted][:n]
    ]
    named = {drug.name for drug in positive}
    training_library = [d.with_role("positive_control") if d.name in named else d for d in training_library]
    return SimulatedScreen(
        training=training,
        screening=screening,
        training_library=[VEHICLE, *training_library],
        library=[VEHICLE, *positive, *held_out],
        truth=truth,
        programme=tuple(genes.loc[genes["part"] == "programme", "symbol"]),
        seed=seed,
    )


def _baselines(genes: pd.DataFrame, rng: np.random.Generator) -> dict[tuple[str, str], np.ndarray]:
    """Return the log mean of every gene per (context, cell type), before depth."""
    n = len(genes)
    part, symbol = genes["part"].to_numpy(), genes["symbol"].to_numpy()
    base = rng.normal(0.0, 1.2, size=n)
    base[part == "target"] = rng.normal(-1.0, 0.6, size=int((part == "target").sum()))
    base[part == "stress"] = rng.normal(0.0, 0.4, size=int((part == "stress").sum()))
    programme = part == "programme"
    base[programme] = rng.normal(0.1, 0.35, size=int(programme.sum()))
    floor, ceiling = np.isin(symbol, FLOOR_GENES), np.isin(symbol, CEILING_GENES)
    base[part == "marker"] = -1.0
    markers = np.flatnonzero(part == "marker").reshape(len(CELL_TYPES), -1)
    means = {}
    for context in CONTEXTS:
        for number, cell_type in enumerate(CELL_TYPES):
            mean = base.copy()
            mean[markers[number]] += 3.0
            if context == "low":
                mean[part == "interferon"] += 1.0
                mean[floor], mean[ceiling] = 0.3, 1.0
            else:
                mean[floor], mean[ceiling] = -5.0, 4.6
            means[context, cell_type] = mean
    return means


def _assign_targets(genes: pd.DataFrame, rng: np.random.Generator) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return four seen and two unseen target genes per class."""
    pool = rng.permutation(genes.loc[genes["part"] == "target", "symbol"].to_numpy()).tolist()
    seen = {planted: [pool.pop() for _ in range(4)] for planted in CLASSES}
    unseen = {planted: [pool.pop() for _ in range(2)] for planted in CLASSES}
    return seen, unseen


def _make_drugs(
    targets: dict[str, list[str]], n: int, rng: np.random.Generator, taken: set[str], *, held_out: bool
) -> tuple[list[Perturbation], list[dict[str, object]]]:
    """Return ``n`` drugs spread evenly over classes and their targets, and their rows of the truth."""
    drugs, rows = [], []
    for number, name in enumerate(made_up_names(n, rng, taken=taken)):
        planted = CLASSES[number % len(CLASSES)]
        choices = targets[planted]
        target = choices[(number // len(CLASSES)) % len(choices)]
        drugs.append(Perturbation(name, targets=(target,), mechanism=mechanism_of(target)))
        potency = float(rng.uniform(0.8, 1.2))
        rows.append(
            {
                "perturbation": name,
                "planted_class": planted,
                "target": target,
                "potency": potency,
                "target_seen": False,
                "held_out": held_out,
            }
        )
    return drugs, rows


def mechanism_of(target: str) -> str:
    """Return the made-up mechanism of all drugs on a target; it says nothing of the response class."""
    return MECHANISMS[sum(map(ord, target)) % len(MECHANISMS)]


def _drug_effects(genes: pd.DataFrame, truth: pd.DataFrame, log_fold: float) -> dict[tuple[str, str], np.ndarray]:
    """Return the log fold change of every gene per (drug, context)."""
    symbol, part = genes["symbol"].to_numpy(), genes["part"].to_numpy()
    floor, ceiling = np.isin(symbol, FLOOR_GENES), np.isin(symbol, CEILING_GENES)
    ordinary = (part == "programme") & ~floor & ~ceiling
    where = {"floor": floor, "ceiling": ceiling, "off_programme": part == "stress"}
    effects = {}
    for name, row in truth.iterrows():
        for context in CONTEXTS:
            shift = np.zeros(len(genes))
            planted, size = row["planted_class"], row["potency"] * log_fold
            if planted == "activator" or (planted == "amplifier" and context == "low"):
                shift[ordinary] = size
            elif planted == "repressor":
                shift[ordinary] = -size
            elif planted in where:
                shift[where[planted]] = size
            effects[str(name), context] = shift
    return effects


def _training_design(library: list[Perturbation], cells: int, donors: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for drug in library:
        n = cells * (10 if drug.role == "vehicle" else 1)
        for context in CONTEXTS:
            order = rng.permutation(n)
            for i in range(n):
                rows.append(
                    (
                        drug.name,
                        context,
                        int(order[i]) % donors,
                        CELL_TYPES[(int(order[i]) // donors) % len(CELL_TYPES)],
                    )
                )
    return pd.DataFrame(rows, columns=["drug", "ifn", "donor", "cell_type"])


def _screening_design(first: int, donors: int, cells: int) -> pd.DataFrame:
    rows = [
        (VEHICLE.name, context, first + donor, CELL_TYPES[(donor + i) % len(CELL_TYPES)])
        for context in CONTEXTS
        for donor in range(donors)
        for i in range(cells)
    ]
    return pd.DataFrame(rows, columns=["drug", "ifn", "donor", "cell_type"])


def _counts(
    design: pd.DataFrame,
    genes: pd.DataFrame,
    log_mean: dict[tuple[str, str], np.ndarray],
    donors: np.ndarray,
    effects: dict[tuple[str, str], np.ndarray],
    rng: np.random.Generator,
    *,
    depth: float = 3000.0,
    dispersion: float = 6.0,
) -> ad.AnnData:
    """Draw negative-binomial counts: Gamma-Poisson with shape ``dispersion``; depth log-normal, sd 0.25."""
    none = np.zeros(len(genes))
    log_rate = np.stack(
        [
            log_mean[row.ifn, row.cell_type] + donors[row.donor] + effects.get((row.drug, row.ifn), none)
            for row in design.itertuples()
        ]
    )
    size = depth * np.exp(rng.normal(0.0, 0.25, size=(len(design), 1)))
    # depth is that of the untreated cell: a drug's rise adds molecules instead of diluting every other gene
    baseline = np.stack([log_mean[row.ifn, row.cell_type] for row in design.itertuples()])
    rate = size * np.exp(log_rate) / np.exp(baseline).sum(axis=1, keepdims=True)
    counts = rng.poisson(rate * rng.gamma(dispersion, 1.0 / dispersion, size=rate.shape))
    obs = design.assign(donor=[f"donor{d:02d}" for d in design["donor"]])
    obs.index = [f"cell{i:06d}" for i in range(len(obs))]
    var = pd.DataFrame({"part": genes["part"].to_numpy()}, index=pd.Index(genes["symbol"], name=None))
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
