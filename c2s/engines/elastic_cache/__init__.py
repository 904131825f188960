"""Masked-diffusion decoding of any decoder made bidirectional, with a cache that is refreshed where attention drifted.

``import c2s.engines.elastic_cache`` is light; a public name is imported from its module on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.engines.elastic_cache.accounting import Accounting as Accounting
    from c2s.engines.elastic_cache.bidirectional import make_bidirectional as make_bidirectional
    from c2s.engines.elastic_cache.bidirectional import sees_both_ways as sees_both_ways
    from c2s.engines.elastic_cache.calibration import calibrate as calibrate
    from c2s.engines.elastic_cache.decoding import Decoded as Decoded
    from c2s.engines.elastic_cache.decoding import decode as decode
    from c2s.engines.elastic_cache.drift_plot import write_drift as write_drift
    from c2s.engines.elastic_cache.parts import DecoderParts as DecoderParts
    from c2s.engines.elastic_cache.rivals import confidence_only as confidence_only
    from c2s.engines.elastic_cache.rivals import rival as rival
    from c2s.engines.elastic_cache.rivals import uncached as uncached
    from c2s.engines.elastic_cache.settings import DecodeSettings as DecodeSettings
    from c2s.engines.elastic_cache.settings import preset as preset
    from c2s.engines.elastic_cache.sheet import Request as Request

_HOME = {
    "Accounting": "accounting",
    "DecodeSettings": "settings",
    "Decoded": "decoding",
    "DecoderParts": "parts",
    "Request": "sheet",
    "calibrate": "calibration",
    "confidence_only": "rivals",
    "decode": "decoding",
    "make_bidirectional": "bidirectional",
    "preset": "settings",
    "rival": "rivals",
    "sees_both_ways": "bidirectional",
    "uncached": "rivals",
    "write_drift": "drift_plot",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
