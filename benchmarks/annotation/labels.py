"""One set of names for the cell types of pbmc3k and pbmc4k, each line with its reason."""

from __future__ import annotations

# pbmc3k (Seurat's tutorial) -> pbmc4k (Young & Behjati 2020); None: left out, since the other data set has no such class
PBMC3K_TO_PBMC4K: dict[str, str | None] = {
    "Naive CD4 T": "T_CD4",  # pbmc4k does not part naive from memory
    "Memory CD4 T": "T_CD4",  # the same; some CD8 cells are known to sit among these clusters in the tutorial
    "CD8 T": "T_CD8",  # one to one
    "B": "B",  # one to one
    "NK": "NK",  # one to one
    "CD14+ Mono": "MNP",  # classical monocytes are mononuclear phagocytes
    "FCGR3A+ Mono": "MNP",  # non-classical monocytes, too
    "DC": "MNP",  # dendritic cells count among mononuclear phagocytes; pbmc4k has no class of their own
    "Platelet": None,  # no platelets are named in pbmc4k; 14 cells
}

# labels that say that a cell was not named
UNNAMED = {"pbmc3k": (), "pbmc4k": ("?",), "pancreas": ()}
