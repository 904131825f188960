"""Counts against counts by hand, and operations against torch's own counter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from c2s.engines.elastic_cache.accounting import Accounting, Shape, Trace
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.rivals import rival, uncached
from c2s.engines.elastic_cache.settings import DecodeSettings
from tests.engines.elastic_cache.families import N_TOKENS, parts_of, request

# 3 tokens of a prompt, 4 places, a window (or block) of 2, one place a step from the left
BY_HAND = {
    "always": [7, 7, 7, 7],
    "never": [7, 2 + 1, 2 + 1, 1 + 1],
    "interval": [7, 2 + 1, 7, 1 + 1],
    "dual": [7, 2, 7, 2],
    "prefix": [7, 4, 7, 2],
    "delayed": [7, 3 + 1, 2 + 1, 1 + 1],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rows_by_hand(name):
    settings = rival(name, DecodeSettings(window=2, commit=1.0), interval=2 if name == "interval" else None)
    found = decode(parts_of("llama"), [leftmost()], settings).accounting
    assert found.traces[0].rows == [[rows] * 3 for rows in BY_HAND[name]]
    assert found.token_layers.tolist() == [3 * sum(BY_HAND[name])]
    assert found.steps.tolist() == [4]
    assert found.commits_per_step == 1
    full = [i for i, rows in enumerate(BY_HAND[name]) if rows == 7 and i]
    assert found.refresh_rate == pytest.approx(len(full) / 3)
    assert found.refresh_by_layer.tolist() == pytest.approx([len(full) / 3] * 3)


def leftmost():
    """Return a request whose places are sure to be written from the left: the stop may stand at the last one only."""
    from c2s.engines.constraint import Constraint, Segment

    one_each = [Segment(0, stop) for stop in (20, 21, 22, 23)]  # each place holds its own stop and nothing else
    return request(3, 4, constraint=Constraint(torch.tensor([2]), one_each, n_tokens=N_TOKENS, pad=0))


def test_what_is_watched_is_run_too():
    found = decode(parts_of("llama"), [leftmost()], DecodeSettings(window=2, commit=1.0, gamma=-1.0)).accounting
    rows = found.traces[0].rows
    assert rows[0] == [7] * 3
    assert found.traces[0].scored[0] == [2] * 3  # the window's rows, to choose what is watched
    assert found.traces[0].scored[1:] == [[1] * 3] * 3
    for step, least in enumerate(BY_HAND["never"]):
        assert least <= rows[step][0] <= min(7, least + 3)
    assert all(math.isnan(x) for x in found.traces[0].drift[0])
    assert np.isfinite(found.traces[0].drift[1:]).all()


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "llada"])
@pytest.mark.parametrize("refresh", ["elastic", "never", "always", "uncached"])
def test_operations_are_what_torch_counts(family, refresh):
    parts, asked = parts_of(family), [request(4, 5), request(3, 4, seed=1)]
    settings = DecodeSettings(window=3, commit=0.3, gamma=0.98 if refresh == "elastic" else 0.9,
                              refresh="always" if refresh == "uncached" else refresh)  # fmt: skip
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = (uncached if refresh == "uncached" else decode)(parts, asked, settings)
    expected = found.accounting.flops
    if family == "llada" and refresh == "uncached":  # its own forward pass runs the head on every place
        trace = [t.length * len(t.rows) * N_TOKENS - sum(t.headed) for t in found.accounting.traces]
        expected += 2 * 32 * sum(trace)
    assert counter.get_total_flops() == expected


def test_bytes_by_hand():
    asked = [request(5, 9), request(3, 7, seed=1)]
    never, elastic = (
        decode(parts_of("llama"), asked, DecodeSettings(refresh=each)).accounting.state_bytes
        for each in ("never", "elastic")
    )
    rows, layers = 24, 3
    assert never == rows * layers * 2 * 16 * 4 + rows * 8
    assert elastic == never + rows * layers * (32 + 32) * 4  # queries, and what layers were given


def test_no_steps_behind_the_first_have_no_rate():
    trace = Trace(4, rows=[[4, 4]], scored=[[0, 0]], refreshed=[0], drift=[[math.nan] * 2], committed=[2], headed=[20])
    found = Accounting([trace], Shape((10, 10), 2, 3, 5), 0)
    assert math.isnan(found.refresh_rate)
    assert np.isnan(found.refresh_by_layer).all()
    by_hand = 2 * (2 * 4 * 10 + 2 * 4 * (3 + 5) * 4) + 2 * 2 * 20  # two layers of 4 rows, and the head
    assert found.flops == by_hand
