"""The baselines beside the model: ridge, neighbours and the mean response, on targets x context, from training responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from c2s.baselines.targets import MeanResponse, TargetNeighbours, TargetRidge
from c2s.cells.library import Perturbation
from c2s.screening.effects import ScreenEffects

RIVALS = {"ridge": TargetRidge, "knn": TargetNeighbours, "mean": MeanResponse}


class Rivals:
    """Baselines fitted on the observed responses a model was trained on, scored on a programme.

    Parameters
    ----------
    responses : DataFrame
        Of training (``CellLM.responses``); held-out perturbations are left out of the fit.
    trained : sequence of Perturbation
        Targets of the training perturbations.
    context_key : str
        Column of ``responses`` that tells contexts apart; other context columns are averaged over.
    contexts : tuple of str
    gene_ids : ndarray of int
        The programme.
    """

    def __init__(
        self,
        responses: pd.DataFrame,
        trained: Sequence[Perturbation],
        *,
        context_key: str,
        contexts: tuple[str, str],
        gene_ids: np.ndarray,
    ) -> None:
        known = {row.name: row for row in trained}
        frame = responses[
            responses[context_key].astype(str).isin(contexts) & responses["perturbation"].isin(list(known))
        ]
        keys = frame.groupby(["perturbation", context_key, "held_out"], sort=True)
        rows = [
            (
                name,
                str(context),
                bool(held),
                np.average(np.stack(group["change"].to_list()), axis=0, weights=group["n_cells"])[gene_ids],
            )
            for (name, context, held), group in keys
        ]
        self.contexts = contexts
        self.held_out = [(known[name], context, float(change.mean())) for name, context, held, change in rows if held]
        train = [(known[name], context, change) for name, context, held, change in rows if not held]
        self.models = {}
        if train:
            perturbations, labels, changes = zip(*train, strict=True)
            self.models = {name: kind().fit(perturbations, labels, np.stack(changes)) for name, kind in RIVALS.items()}

    @classmethod
    def of(
        cls,
        responses: pd.DataFrame | None,
        trained: Sequence[Perturbation],
        *,
        context_key: str,
        contexts: tuple[str, str],
        gene_ids: np.ndarray,
    ) -> Rivals | None:
        """Return the rivals, or None when training says nothing of both contexts."""
        if responses is None or context_key not in responses:
            return None
        learned = ~responses["held_out"].astype(bool) & responses["perturbation"].isin([row.name for row in trained])
        if not set(contexts) <= set(responses.loc[learned, context_key].astype(str)):
            return None
        return cls(responses, trained, context_key=context_key, contexts=contexts, gene_ids=gene_ids)

    def splits(self, perturbations: Sequence[Perturbation]) -> dict[str, np.ndarray]:
        """Return each rival's predicted split per perturbation, log1p CP10k, mean over the programme."""
        out = {}
        for name, model in self.models.items():
            first, second = (model.predict(perturbations, [c] * len(perturbations)).mean(axis=1) for c in self.contexts)
            out[name] = first - second
        return out

    def held_out_scores(self, effects: ScreenEffects) -> dict[str, dict[str, float]] | None:
        """Return RMSE and Spearman correlation on held-out training perturbations, for the model and its rivals.

        Predicted and observed are the programme's mean change in log1p CP10k per perturbation and context.
        """
        index = {
            name: i
            for i, (name, kind) in enumerate(zip(effects.rows["name"], effects.rows["set"], strict=True))
            if kind == "reference"
        }
        pairs = [(p, context, observed) for p, context, observed in self.held_out if p.name in index]
        if len(pairs) < 4:
            return None
        observed = np.array([value for *_, value in pairs])
        context = effects.cells["context"].to_numpy()
        effect = effects.effect["log_expression"]
        predicted = {"model": np.array([effect[index[p.name], context == c].mean() for p, c, _ in pairs])}
        perturbations, labels = [p for p, *_ in pairs], [c for _, c, _ in pairs]
        predicted |= {name: model.predict(perturbations, labels).mean(axis=1) for name, model in self.models.items()}
        return {
            name: {
                "rmse": float(np.sqrt(np.square(values - observed).mean())),
                "spearman": float(pd.Series(values).rank().corr(pd.Series(observed).rank())),
                "n": len(pairs),
            }
            for name, values in predicted.items()
        }
