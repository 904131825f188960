"""Layer routing of frozen decoders: plans that skip, execute or repeat layers, searches for them, routers that decide them, rivals.

``import c2s.engines.layer_routing`` is light; a public name is imported from its module on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.engines.layer_routing.hooks import Routing as Routing
    from c2s.engines.layer_routing.hooks import decided as decided
    from c2s.engines.layer_routing.hooks import routed as routed
    from c2s.engines.layer_routing.plan import LayerPlan as LayerPlan
    from c2s.engines.layer_routing.prefix import PrefixReuse as PrefixReuse
    from c2s.engines.layer_routing.prefix import logits_of_plans as logits_of_plans
    from c2s.engines.layer_routing.rewards import Retest as Retest
    from c2s.engines.layer_routing.rewards import retest as retest
    from c2s.engines.layer_routing.rivals import block_influence as block_influence
    from c2s.engines.layer_routing.rivals import early_exit as early_exit
    from c2s.engines.layer_routing.rivals import random_removal as random_removal
    from c2s.engines.layer_routing.rivals import shortgpt as shortgpt
    from c2s.engines.layer_routing.rivals import tale as tale
    from c2s.engines.layer_routing.router import Router as Router
    from c2s.engines.layer_routing.router_training import train_routers as train_routers
    from c2s.engines.layer_routing.routing import calibrate_depth as calibrate_depth
    from c2s.engines.layer_routing.routing import mean_depth as mean_depth
    from c2s.engines.layer_routing.routing import plans_of as plans_of
    from c2s.engines.layer_routing.samples import read_samples as read_samples
    from c2s.engines.layer_routing.samples import search_samples as search_samples
    from c2s.engines.layer_routing.searching import SearchResult as SearchResult
    from c2s.engines.layer_routing.searching import search as search
    from c2s.engines.layer_routing.settings import RouterSettings as RouterSettings
    from c2s.engines.layer_routing.support import decoder_of as decoder_of

_HOME = {
    "LayerPlan": "plan",
    "PrefixReuse": "prefix",
    "Retest": "rewards",
    "Router": "router",
    "RouterSettings": "settings",
    "Routing": "hooks",
    "SearchResult": "searching",
    "block_influence": "rivals",
    "calibrate_depth": "routing",
    "decided": "hooks",
    "decoder_of": "support",
    "early_exit": "rivals",
    "logits_of_plans": "prefix",
    "mean_depth": "routing",
    "plans_of": "routing",
    "random_removal": "rivals",
    "read_samples": "samples",
    "retest": "rewards",
    "routed": "hooks",
    "search": "searching",
    "search_samples": "samples",
    "shortgpt": "rivals",
    "tale": "rivals",
    "train_routers": "router_training",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
