"""Niches of the mouse cortex: the layer whose cells are commonest around a cell. A rule, not an anatomist's eye."""

from __future__ import annotations

import numpy as np

# cell types that mark a place by where they lie, from white matter outwards; the others are found in all layers
LAYERS: dict[str, str] = {
    "HPC": "hippocampus",
    "Oligo": "white matter",
    "eL6": "layer 6",
    "eL5": "layer 5",
    "eL4": "layer 4",
    "eL2_3": "layer 2/3",
    "Smc": "pia",
}
NEAREST = 15  # marking cells that decide


def layers_of(places: np.ndarray, cell_types: np.ndarray) -> np.ndarray:
    """Return the layer of each cell: the commonest marking type of the 15 nearest marking cells, itself left out.

    Of equally common ones, that of the nearest cell. A cell's own type says nothing of its label.
    """
    marking = np.flatnonzero(np.isin(cell_types, list(LAYERS)))
    found = []
    for i, here in enumerate(places):
        others = marking[marking != i]
        distance = np.sqrt(((places[others] - here) ** 2).sum(axis=1))
        near = cell_types[others[np.lexsort((others, distance))[:NEAREST]]]
        names, first, counts = np.unique(near, return_index=True, return_counts=True)
        found.append(LAYERS[names[np.lexsort((first, -counts))[0]]])
    return np.array(found)
