"""A simulated screen against its truth: does the split rank the planted amplifiers, and are the hits amplifiers?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

PLANTED = "amplifier"


def score_against_truth(table: pd.DataFrame) -> dict[str, Any]:
    """Return ROC areas of the split for planted amplifiers, beside the baselines', and precision and recall of the hits.

    ROC areas are over library drugs with seen targets (``auc``) and with unseen targets (``auc_unseen``). Precision is
    NaN without hits; recall counts all planted amplifiers with seen targets.
    """
    drugs = table[table["role"] == "drug"]
    planted = (drugs["planted_class"] == PLANTED).to_numpy()
    seen = (drugs["support"] != "unseen").to_numpy()
    columns = {"model": "split", "ridge": "ridge_split", "knn": "knn_split"}
    hit = drugs["hit"].to_numpy(dtype=bool)

    def area(mask: np.ndarray, column: str) -> float:
        if column not in drugs or len(set(planted[mask])) < 2:
            return float("nan")
        return float(roc_auc_score(planted[mask], drugs[column].to_numpy()[mask]))

    return {
        "auc": {name: area(seen, column) for name, column in columns.items()},
        "auc_unseen": {name: area(~seen, column) for name, column in columns.items()},
        "precision": float(planted[hit].mean()) if hit.any() else float("nan"),
        "recall": float(hit[planted & seen].mean()) if (planted & seen).any() else float("nan"),
        "hits": int(hit.sum()),
        "hits_by_class": {str(k): int(v) for k, v in drugs["planted_class"][hit].value_counts().items()},
        "refused_by_class": {
            str(k): int(v) for k, v in drugs["planted_class"][drugs["refused_because"] != ""].value_counts().items()
        },
    }
