"""What is asked: layers and decisions in a mouse cortex, by blocks with a buffer; regions of breast tumours, by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import anndata as ad
import numpy as np

from benchmarks.spatial.layers import layers_of
from c2s.cells.gene_table import read_gene_table
from c2s.cells.reading import read_cells
from c2s.spatial import (
    Groups,
    Neighbourhoods,
    PairKnowledge,
    SpatialSplit,
    block_folds,
    blocks_of,
    coordinates_of,
    leave_one_sample_out,
    neighbourhood_groups,
    niche_groups,
    read_cellphonedb,
    read_pairs,
)

RADIUS = 350.0  # pixels of starmap: some six neighbours
BLOCKS = (4, 1)  # across the cortex; each reaches from hippocampus to pia, so every layer is learnt from
N_CELLS = 4  # of a group
N_TRAIN, N_TEST = 1200, 300  # groups
UNNAMED = "undetermined"  # spots of her2st that were not named
REACH = 1.5  # of her2st's array: the eight spots around one

Knowledge = Mapping[str, PairKnowledge]


@dataclass(frozen=True, eq=False)
class Question:
    """Items to learn from and to ask: a cell alone, or the cells of a group.

    Attributes
    ----------
    cells : AnnData
        Counts of every cell, those of neither kind too: they are neighbours.
    around : Neighbourhoods
    train, test : sequence of ndarray of int64
        Rows of the cells of each item.
    train_labels, test_labels : ndarray of str
    folds : ndarray of int
        What may not be torn apart when a penalty is chosen: the block or patient of each item of ``train``.
    task : str
        Name of the task of :mod:`c2s.tasks` that asks it in words.
    knowledge : mapping of str to PairKnowledge
        ``lr`` and ``interactions``, of the genes of the cells; empty where none is told.
    """

    cells: ad.AnnData
    around: Neighbourhoods
    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    train_labels: np.ndarray
    test_labels: np.ndarray
    folds: np.ndarray
    task: str
    knowledge: Knowledge = field(default_factory=dict)

    @property
    def of_groups(self) -> bool:
        return len(self.train[0]) > 1

    @property
    def classes(self) -> list[str]:
        return sorted({*self.train_labels, *self.test_labels})


def questions(data: Path) -> dict[str, Callable[[str, int], Question]]:
    """Return each question by its name: a function of the fold and of the seed, which draws groups and nothing else."""
    return {
        "starmap, layer": partial(_layer, data),
        "starmap, same neighbourhood": partial(_decision, data, "neighbourhood"),
        "starmap, same layer": partial(_decision, data, "layer"),
        "her2st, region": partial(_region, data),
    }


def folds_of(question: str) -> tuple[str, ...]:
    """Return the folds of a question: blocks of starmap, patients of her2st. Each cell is asked in one of them."""
    return tuple(map(str, range(BLOCKS[0]))) if question.startswith("starmap") else ("B", "C", "D")


@cache
def cortex(data: Path) -> tuple[ad.AnnData, Neighbourhoods]:
    """Return the cells of starmap with their layer in ``obs["label"]``, and their neighbourhoods."""
    cells = read_cells(data / "starmap_cortex" / "starmap_cortex_counts.h5ad")
    places = coordinates_of(cells)
    cells.obs["label"] = layers_of(places, cells.obs["cell_type"].to_numpy(dtype=str))
    return cells, Neighbourhoods.of(places, radius=RADIUS)


@cache
def tumours(data: Path) -> tuple[ad.AnnData, Neighbourhoods]:
    """Return the named spots of her2st, and their neighbourhoods on the array; unnamed spots are no neighbours either."""
    spots = read_cells(data / "her2st" / "her2st_3sections_counts.h5ad")
    spots = spots[(spots.obs["label"] != UNNAMED).to_numpy()].copy()
    places = coordinates_of(spots, obs_keys=("array_x", "array_y"))
    return spots, Neighbourhoods.of(places, radius=REACH, sample=spots.obs["section"])


@cache
def mouse_knowledge(data: Path) -> dict[str, PairKnowledge]:
    """Return ligands with receptors, and interactions, in mouse symbols, of the genes of starmap."""
    genes = cortex(data)[0].var_names
    folder, networks = data / "ligand_receptor", data / "networks"
    table = read_gene_table(data / "gene_tables" / "Ensembl105_Human2Mouse_Genes.csv.gz")
    cellphonedb = read_cellphonedb(
        folder / "cellphonedb_interaction_input.csv.gz",
        complexes=folder / "cellphonedb_complex_input.csv.gz",
        genes=folder / "cellphonedb_gene_input.csv.gz",
    ).to_species(table, species="mouse")
    celltalk = read_pairs(
        folder / "celltalkdb_mouse_lr_pair.tsv.gz", species="mouse", kind="ligand_receptor", source="CellTalkDB",
        columns=("ligand_gene_symbol", "receptor_gene_symbol"),
    )  # fmt: skip
    omnipath = read_pairs(
        networks / "omnipath_signaling_network.tsv.gz", species="human", kind="interaction", source="OmniPath",
        columns=("from", "to"),
    ).to_species(table, species="mouse")  # fmt: skip
    proteins = read_pairs(
        networks / "ppi_cellchat_human.tsv.gz", species="human", kind="interaction", source="CellChat"
    ).to_species(table, species="mouse")
    both = {"lr": (cellphonedb, celltalk), "interactions": (omnipath, proteins)}
    return {
        name: PairKnowledge(a.pairs + b.pairs, a.kind, f"{a.source}, and {b.source}", "mouse").restricted(genes)
        for name, (a, b) in both.items()
    }


def _layer(data: Path, fold: str, seed: int) -> Question:
    cells, around = cortex(data)
    split = _split(around, fold)
    labels = cells.obs["label"].to_numpy(dtype=str)
    return Question(
        cells, around, split.train[:, None], split.test[:, None], labels[split.train], labels[split.test],
        blocks_of(around.coordinates, n_blocks=BLOCKS)[split.train], "niche_label", mouse_knowledge(data),
    )  # fmt: skip


def _decision(data: Path, which: str, fold: str, seed: int) -> Question:
    cells, around = cortex(data)
    split = _split(around, fold)

    def drawn(among: np.ndarray, n_groups: int) -> Groups:
        if which == "neighbourhood":
            return neighbourhood_groups(around, n_groups=n_groups, n_cells=N_CELLS, among=among, seed=seed)
        return niche_groups(cells.obs["label"], n_groups=n_groups, n_cells=N_CELLS, among=among, seed=seed)

    train, test = drawn(split.train, N_TRAIN), drawn(split.test, N_TEST)
    blocks = blocks_of(around.coordinates, n_blocks=BLOCKS)
    return Question(
        cells, around, train.rows, test.rows, _in_words(train), _in_words(test),
        np.array([blocks[rows[0]] for rows in train.rows]),
        "same_neighbourhood" if which == "neighbourhood" else "same_niche", mouse_knowledge(data),
    )  # fmt: skip


def _region(data: Path, fold: str, seed: int) -> Question:
    spots, around = tumours(data)
    split = dict(leave_one_sample_out(spots.obs["patient"]))[fold]
    labels = spots.obs["label"].to_numpy(dtype=str)
    folds = np.unique(spots.obs["patient"], return_inverse=True)[1][split.train]
    return Question(
        spots,
        around,
        split.train[:, None],
        split.test[:, None],
        labels[split.train],
        labels[split.test],
        folds,
        "niche_label",
    )


def _split(around: Neighbourhoods, fold: str) -> SpatialSplit:
    return dict(block_folds(around.coordinates, n_blocks=BLOCKS, buffer=2 * RADIUS))[int(fold)]


def _in_words(groups: Groups) -> np.ndarray:
    return np.where(groups.together, "Yes", "No")
