"""Going on from a trained model: what the new run says counts, what it says nothing of stays as it was."""

from __future__ import annotations

import pandas as pd

from c2s.errors import ConfigError
from c2s.models.settings import ModelSettings, PerturbationSettings


def continued_settings(before: ModelSettings, now: ModelSettings) -> ModelSettings:
    """Return the settings of a model that was trained again.

    Tasks, conditions and perturbations of both runs are kept; where both speak of one, the new run counts. A perturbation is held out
    if neither run trained on it.

    Raises
    ------
    ConfigError
        The runs have different objectives, read different context columns or name different vehicles, so one model cannot serve both.
    """
    if before.objective != now.objective:
        msg = f"the model was trained with objective={before.objective!r}, this run has {now.objective!r}; go on with the same, or start from a preset"
        raise ConfigError(msg)
    said = {name: value for name, value in now.model_dump().items() if value}
    names = dict.fromkeys((*before.conditions, *now.conditions))
    conditions = {
        name: tuple(sorted({*before.conditions.get(name, ()), *now.conditions.get(name, ())})) for name in names
    }
    merged = before.with_(**{**said, "tasks": {**before.tasks, **now.tasks}, "conditions": conditions})
    if before.perturbation is None or now.perturbation is None:
        return merged
    return merged.with_(perturbation=_perturbations(before.perturbation, now.perturbation))


def _perturbations(before: PerturbationSettings, now: PerturbationSettings) -> PerturbationSettings:
    for name in ("context_keys", "control"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            msg = f"the model was trained with {name}={old!r}, this run has {new!r}; go on with the same, or start from a preset"
            raise ConfigError(msg)
    library = {row["name"]: row for row in (*before.library, *now.library)}
    learnt = {row["name"] for run in (before, now) for row in run.library if row["name"] not in run.held_out}
    return now.with_(
        library=tuple(library.values()),
        held_out=tuple(name for name in library if name not in learnt),
        match_by=tuple(dict.fromkeys((*before.match_by, *now.match_by))),
    )


def continued_responses(
    before: pd.DataFrame | None, now: pd.DataFrame | None, settings: ModelSettings
) -> pd.DataFrame | None:
    """Return the responses of both runs; where both measured a perturbation, those of the new run."""
    if before is None or now is None:
        return now if before is None else before
    kept = before[~before["perturbation"].isin(set(now["perturbation"]))]
    both = pd.concat([kept, now], ignore_index=True)
    held_out = settings.perturbation.held_out if settings.perturbation else ()
    return both.assign(held_out=both["perturbation"].isin(held_out))
