"""The hold-out tiers of the cytokine study in the paper of C2S-Scale, as conditions to be listed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from c2s.cells.reading import complete_column
from c2s.errors import DataError
from c2s.perturbation.splits import Split, unseen_conditions
from c2s.perturbation.synonyms import Synonyms

# (cytokines, cell type, exposure); None is any
PAPER_TIERS: dict[str, list[tuple[str, str | None, str | None]]] = {
    "unseen combination": [("IFN-β + IL-6", None, None)],
    "unseen in a cell type": [
        ("IFN-III", "B", None),
        ("IFN-γ", "CD4 T", None),
        ("IFN-α2", "CD8 T", None),
        ("IFN-β", "DC", None),
        ("IL-6", "NK", None),
    ],
    "unseen in one exposure": [
        ("IFN-β", "B", "acute"),
        ("IFN-β + IFN-γ", "CD4 T", "acute"),
        ("TNF-α", "CD8 T", "chronic"),
        ("IFN-III", "NK", "chronic"),
    ],
}


def paper_split(
    obs: pd.DataFrame,
    *,
    control: str,
    perturbation_key: str = "perturbation",
    cell_type_key: str = "cell_type",
    exposure_key: str = "exposure",
    aliases: Mapping[str, str] | None = None,
    validation_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Return the split of :data:`PAPER_TIERS` over the cells of Dong et al., as :func:`c2s.perturbation.datasets.load_dong` reads them.

    The paper names no validation conditions; those here are drawn by ``seed``.

    Parameters
    ----------
    obs, perturbation_key, control, validation_share, seed
        As :func:`c2s.perturbation.splits.unseen_conditions`.
    cell_type_key, exposure_key
        Columns of the cell type and of acute or chronic exposure.
    aliases : mapping of str to str, optional
        A name of :data:`PAPER_TIERS` to what the cells call it, where spelling alone does not tell: ``{"IFN-III": "IFNL1"}``.

    Raises
    ------
    DataError
        A column is missing or has gaps, or the cells have no such cytokine, type or exposure (they are listed).
    """
    keys = (perturbation_key, cell_type_key, exposure_key)
    found = [sorted(set(complete_column(obs, key, "perturbation_key, cell_type_key or exposure_key"))) for key in keys]
    aliases = aliases or {}
    names = [
        Synonyms(values, aliases={name: value for name, value in aliases.items() if value in values})
        for values in found
    ]
    conditions: dict[str, list[dict[str, str]]] = {}
    missing = []
    for tier, rows in PAPER_TIERS.items():
        for row in rows:
            resolved = {key: (each.resolve(value), value) for key, each, value in zip(keys, names, row) if value}
            missing += [f"{value} ({key})" for key, (hit, value) in resolved.items() if hit is None]
            conditions.setdefault(tier, []).append({key: str(hit) for key, (hit, _) in resolved.items()})
    if missing:
        msg = f"the cells have no {', '.join(dict.fromkeys(missing))}; found {'; '.join(', '.join(values) for values in found)}. Pass aliases="
        raise DataError(msg)
    return unseen_conditions(
        obs, conditions=conditions, perturbation_key=perturbation_key, control=control, name="cytokines of C2S-Scale",
        validation_share=validation_share, seed=seed,
    )  # fmt: skip
