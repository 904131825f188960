"""Reinforcement learning of language models: recipes on TRL, constraints, health, evaluation, ablation, scaling curves.

``import c2s.engines.rl`` is light; a public name is imported from its module on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.engines.rl.ablation import Arm as Arm
    from c2s.engines.rl.ablation import ablate as ablate
    from c2s.engines.rl.ablation import at_equal_compute as at_equal_compute
    from c2s.engines.rl.ablation import leave_one_out as leave_one_out
    from c2s.engines.rl.ablation import presets as presets
    from c2s.engines.rl.curriculum import TargetMix as TargetMix
    from c2s.engines.rl.curriculum import curate as curate
    from c2s.engines.rl.episodes import MultiTurn as MultiTurn
    from c2s.engines.rl.episodes import Reply as Reply
    from c2s.engines.rl.hybrid import HybridConfig as HybridConfig
    from c2s.engines.rl.overlong import tool_bonus as tool_bonus
    from c2s.engines.rl.probing import probe as probe
    from c2s.engines.rl.problem import Problem as Problem
    from c2s.engines.rl.recipes import Recipe as Recipe
    from c2s.engines.rl.recipes import recipe as recipe
    from c2s.engines.rl.rollouts import read_rollouts as read_rollouts
    from c2s.engines.rl.rollouts import replay as replay
    from c2s.engines.rl.run import read_curve as read_curve
    from c2s.engines.rl.run import reinforce as reinforce
    from c2s.engines.rl.sampling import Interruption as Interruption
    from c2s.engines.rl.scaling_law import fit_scaling_law as fit_scaling_law
    from c2s.engines.rl.scaling_plot import fitted as fitted
    from c2s.engines.rl.scaling_plot import write_curves as write_curves
    from c2s.engines.rl.settings import RunSettings as RunSettings

_HOME = {
    "Arm": "ablation",
    "HybridConfig": "hybrid",
    "Interruption": "sampling",
    "MultiTurn": "episodes",
    "Problem": "problem",
    "Recipe": "recipes",
    "Reply": "episodes",
    "RunSettings": "settings",
    "TargetMix": "curriculum",
    "ablate": "ablation",
    "at_equal_compute": "ablation",
    "curate": "curriculum",
    "fit_scaling_law": "scaling_law",
    "fitted": "scaling_plot",
    "leave_one_out": "ablation",
    "presets": "ablation",
    "probe": "probing",
    "read_curve": "run",
    "read_rollouts": "rollouts",
    "recipe": "recipes",
    "reinforce": "run",
    "replay": "rollouts",
    "tool_bonus": "overlong",
    "write_curves": "scaling_plot",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
