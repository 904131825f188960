"""Pieces of work timed in turn, and the copy bandwidth that bounds them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.card import Figure

ROUNDS = 5


@dataclass(frozen=True)
class Seconds:
    """Of each round: wall, and CPU of all threads."""

    wall: list[float]
    cpu: list[float]


def in_turn(works: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS) -> dict[str, Seconds]:
    """Return the seconds of each piece of work, one after the other in every round."""
    seconds = {name: Seconds([], []) for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            seconds[name].cpu.append(time.process_time() - cpu)
            seconds[name].wall.append(time.perf_counter() - wall)
    return seconds


def ratio(name: str, ours: list[float], theirs: list[float], bar: float | None = None, *, reason: str = "") -> Figure:
    """Return how many times faster ours is: medians, with the worst and best pair of rounds as low and high.

    ``reason`` goes with a bar that is not met.
    """
    value = statistics.median(theirs) / statistics.median(ours)
    met = None if bar is None else value >= bar
    return Figure(
        name, value, min(theirs) / max(ours), max(theirs) / min(ours), n=len(ours),
        bar=None if bar is None else f">= {bar:g}", met=met, reason=reason if met is False else None,
    )  # fmt: skip


def speed(name: str, n: int, seconds: list[float], bar: float | None = None, *, reason: str = "") -> Figure:
    """Return cells per second: the median round, with the slowest and fastest as low and high."""
    value = n / statistics.median(seconds)
    met = None if bar is None else value >= bar
    return Figure(
        name, value, n / max(seconds), n / min(seconds), n=len(seconds),
        bar=None if bar is None else f">= {bar:,g}", met=met, reason=reason if met is False else None,
    )  # fmt: skip


def copy_bandwidth(threads: int, size: int = 64 * 2**20) -> float:
    """Return bytes read plus bytes written per second when ``threads`` threads copy arrays larger than the caches."""
    sources = [np.ones(size // 4, np.int32) for _ in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(8):
            start = time.perf_counter()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.perf_counter() - start)
    return 2 * threads * size / best
