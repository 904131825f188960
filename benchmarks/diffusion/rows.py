"""Ways to decode the same weights: without a cache, with the caches of others, elastic, and elastic with each part taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from c2s.engines.elastic_cache import (
    Decoded,
    DecoderParts,
    DecodeSettings,
    Request,
    calibrate,
    confidence_only,
    decode,
    preset,
    rival,
    uncached,
)

WINDOW = 32
Decode = Callable[[DecoderParts, Sequence[Request], DecodeSettings], Decoded]


@dataclass(frozen=True)
class Row:
    """One way to decode.

    Attributes
    ----------
    run : callable
    settings : DecodeSettings
    """

    run: Decode
    settings: DecodeSettings

    def timed(self, parts: DecoderParts, requests: Sequence[Request]) -> tuple[list[Decoded], list[float]]:
        """Return answers and seconds, one request after the other."""
        found, seconds = [], []
        for request in requests:
            begun = time.perf_counter()
            found.append(self.run(parts, [request], self.settings))
            seconds.append(time.perf_counter() - begun)
        return found, seconds


def rows(parts: DecoderParts, sample: Sequence[Request], *, commit: float, temperature: float) -> dict[str, Row]:
    """Return all rows with the same commits and temperature, and the same window but for the paper's; gamma is calibrated on ``sample``."""
    plain = DecodeSettings(window=WINDOW, commit=commit, temperature=temperature, refresh="elastic", gamma=0.9)
    fitted = calibrate(parts, sample, plain)
    one = {"max_commits": 1}
    return {
        "uncached, one gene a step": Row(uncached, rival("always", plain).with_(**one)),
        "uncached": Row(uncached, rival("always", plain)),
        "all rows, by the same driver": Row(decode, rival("always", plain)),
        "any place, uncached": Row(confidence_only, rival("always", plain)),
        "prefix cache": Row(decode, rival("prefix", plain)),
        "dual block cache": Row(decode, rival("dual", plain)),
        "delayed cache": Row(decode, rival("delayed", plain)),
        "refresh every 8 steps": Row(decode, rival("interval", plain, interval=8)),
        "never refreshed": Row(decode, rival("never", plain)),
        "elastic, paper's window of 16 and gamma": Row(decode, preset("paper").with_(commit=commit, temperature=temperature)),
        "elastic, calibrated": Row(decode, fitted),
        "elastic, one gene a step": Row(decode, fitted.with_(**one)),
        "elastic, written genes not asked again": Row(decode, fitted.with_(query_committed=False)),
        "elastic, column": Row(decode, calibrate(parts, sample, plain.with_(signal="column"))),
        "elastic, refresh without far masks": Row(decode, fitted.with_(refresh_far=False)),
    }  # fmt: skip
