"""A second tree of modules over the same weights: what is set on it is not set on the model."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn


def shadow(module: nn.Module, *, attention: str | None = None) -> Any:
    """Return a module that computes what ``module`` does in evaluation, shares its weights, and leaves it as it is.

    Parameters
    ----------
    module : Module
    attention : str or None
        The attention that the second tree asks for (transformers' ``_attn_implementation``); None leaves the model's.
    """
    return _shadow(module, attention, {}, {})


def _shadow(
    module: nn.Module, attention: str | None, modules: dict[int, nn.Module], configs: dict[int, Any]
) -> nn.Module:
    if id(module) in modules:
        return modules[id(module)]
    twin = type(module).__new__(type(module))
    modules[id(module)] = twin
    twin.__dict__.update(module.__dict__)
    twin.__dict__["training"] = False
    for name in ("_parameters", "_buffers"):
        twin.__dict__[name] = dict(module.__dict__[name])
    twin.__dict__["_modules"] = {
        name: child if child is None else _shadow(child, attention, modules, configs)
        for name, child in cast("dict[str, nn.Module | None]", module.__dict__["_modules"]).items()
    }
    config = module.__dict__.get("config")
    if attention is not None and hasattr(config, "_attn_implementation"):
        if id(config) not in configs:
            configs[id(config)] = copy.deepcopy(config)
            configs[id(config)]._attn_implementation = attention
        twin.__dict__["config"] = configs[id(config)]
    return twin
