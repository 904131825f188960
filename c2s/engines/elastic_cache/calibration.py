"""A gamma for a model: how far its attention drifts on some requests, and below which cosine a wanted share of steps refreshes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from c2s.engines.elastic_cache.accounting import Accounting
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Request
from c2s.errors import ConfigError, DataError


def calibrate(
    parts: DecoderParts, requests: Sequence[Request], settings: DecodeSettings, *, target: float = 0.1
) -> DecodeSettings:
    """Return the settings with a gamma at which about ``target`` of the steps would refresh.

    The requests are decoded with every drift measured and no refresh. A step refreshes where the least cosine of its layers but the last
    is below gamma, so that gamma is the quantile ``target`` of that least cosine over steps. Refreshes change what follows them, so
    that the rate met later is about the one asked for, not equal to it; the accounting says what it is.

    Parameters
    ----------
    parts : DecoderParts
    requests : sequence of Request
        A sample of those to come.
    settings : DecodeSettings
        With ``refresh="elastic"``.
    target : float
        Share of the steps behind the first, between 0 and 1.

    Raises
    ------
    ConfigError
        ``target`` is out of range, or nothing is elastic.
    DataError
        The requests were done before any drift could be measured.
    """
    if not 0 < target < 1:
        msg = f"target is {target}; give the share of steps that should refresh, between 0 and 1"
        raise ConfigError(msg)
    if settings.refresh != "elastic":
        msg = f"gamma is not read with refresh={settings.refresh!r}; calibrate settings with refresh='elastic'"
        raise ConfigError(msg)
    least = least_cosines(decode(parts, requests, settings.with_(gamma=-1.0)).accounting)
    if not len(least):
        msg = f"the {len(requests)} requests were filled before attention could be compared; give longer ones, or a model of more layers"
        raise DataError(msg)
    return settings.with_(gamma=float(np.quantile(least, target, method="higher")))


def least_cosines(accounting: Accounting) -> np.ndarray:
    """Return the least cosine over layers but the last of every step in which one was measured, float64 (n,)."""
    drift = np.concatenate([np.array(trace.drift)[:, :-1] for trace in accounting.traces])
    measured = drift[~np.isnan(drift).all(1)]
    return 1 - np.nanmax(measured, axis=1) if measured.size else np.empty(0)
