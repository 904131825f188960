"""When attention drifts, what is refreshed, and that nothing is kept anywhere but with the requests."""

from __future__ import annotations

import copy
import math
import threading

import numpy as np
import pytest
import torch

from c2s.engines.constraint import Constraint
from c2s.engines.elastic_cache.accounting import NO_REFRESH
from c2s.engines.elastic_cache.bidirectional import make_bidirectional
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.driver import CachedEngine
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Sheet
from c2s.engines.elastic_cache.turn import similarity
from tests.engines.elastic_cache.families import MASK, N_TOKENS, answers_of, causal, parts_of, request


def begun(settings, family="llama", n_requests=1, dtype=torch.float64):
    """Return an engine after its first step, in which nothing was written: all is as it was."""
    sheets = [Sheet(request(5, 9, seed=i), mask_id=MASK, n_tokens=N_TOKENS) for i in range(n_requests)]
    engine = CachedEngine(parts_of(family, dtype), sheets, settings)
    windows = [sheet.window(settings) for sheet in sheets]
    look(engine, sheets, windows)
    return engine, sheets, windows


@torch.no_grad()
def look(engine, sheets, windows):
    return engine.look(sheets, windows)


@pytest.mark.parametrize("signal", ["row", "column", "head"])
@pytest.mark.parametrize("moved", [0, 1])
def test_drift_is_seen_in_the_layer_where_it_was_planted(signal, moved):
    """Of two requests, the second one's queries of one layer are turned round; it refreshes from the next layer on, the first does not."""
    settings = DecodeSettings(window=3, signal=signal, gamma=0.99)
    engine, sheets, windows = begun(settings, n_requests=2)
    engine.state.queries[moved][engine.state.streams[1].span] *= -6
    look(engine, sheets, windows)
    quiet, loud = engine.traces
    np.testing.assert_allclose(quiet.drift[1], [0, 0, 0], atol=1e-6)
    assert quiet.refreshed == [0, NO_REFRESH]
    assert loud.refreshed == [0, moved + 1]
    assert loud.drift[1][moved] > 0.01
    np.testing.assert_allclose(loud.drift[1][:moved], 0, atol=1e-6)
    assert all(math.isnan(drift) for drift in loud.drift[1][moved + 1 :])
    n_rows = loud.rows[1][0]
    assert loud.rows[1] == [n_rows] * (moved + 1) + [14] * (2 - moved)
    look(engine, sheets, windows)  # the refresh set the queries right
    if moved == 0:
        assert loud.drift[2][0] < 1e-6


def test_drift_in_the_last_layer_leaves_nothing_to_refresh():
    engine, sheets, windows = begun(DecodeSettings(window=3, gamma=0.99))
    engine.state.queries[2] *= -6
    look(engine, sheets, windows)
    assert engine.traces[0].drift[1][2] > 0.01
    assert engine.traces[0].refreshed == [0, NO_REFRESH]


def test_decided_late_the_next_step_refreshes():
    settings = DecodeSettings(window=3, gamma=0.99, decide="late")
    engine, sheets, windows = begun(settings)
    engine.state.queries[1] *= -6
    first = look(engine, sheets, windows)
    second = look(engine, sheets, windows)
    assert engine.traces[0].refreshed == [0, NO_REFRESH, 2]
    assert not any(math.isnan(drift) for drift in engine.traces[0].drift[1])
    torch.testing.assert_close(first[0], second[0])


def test_a_gamma_of_minus_one_never_fires_and_above_one_always():
    asked = [request(5, 9, seed=seed) for seed in range(3)]
    settings = DecodeSettings(window=3, commit=1.0)
    never = decode(parts_of("llama"), asked, settings.with_(gamma=-1.0))
    assert never.accounting.refresh_rate == 0
    assert not never.accounting.refresh_by_layer.any()
    always = decode(parts_of("llama"), asked, settings.with_(gamma=2.0))
    assert always.accounting.refresh_rate == 1
    assert always.accounting.refresh_by_layer.tolist() == [0, 1, 1]


def test_a_refresh_may_leave_far_masks_out():
    settings = DecodeSettings(window=3, gamma=2.0, refresh_far=False, commit=1.0)
    engine, sheets, windows = begun(settings)
    look(engine, sheets, windows)
    assert engine.traces[0].rows[1][1:] == [5 + 3] * 2


def test_watched_tokens_are_written_ones_the_window_attends_to():
    settings = DecodeSettings(window=3, gamma=-1.0, tracked=2)
    engine, sheets, _ = begun(settings)
    stream = engine.state.streams[0]
    for layer in range(3):
        rows = torch.tensor([5, 6, 7])
        query, key = engine.state.queries[layer][rows], engine.state.keys[layer].repeat_interleave(2, 1)
        weight = (torch.einsum("rhd,nhd->hrn", query, key) * 8**-0.5).softmax(-1)
        expected = weight.sum((0, 1))[:5].topk(2).indices.tolist()
        assert stream.tracked[layer] == expected


def test_similarity():
    past = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # two heads, one token, two keys
    now = past.flip(0)
    assert float(similarity(past, now, "row")) == pytest.approx(1.0)  # the mean of heads is the same
    assert float(similarity(past, now, "head")) == pytest.approx(0.0)
    window = torch.tensor([[[1.0], [1.0]]])  # one head, two places of the window, one token
    assert float(similarity(window, torch.tensor([[[1.0], [0.0]]]), "column")) == pytest.approx(0.5**0.5)


def test_two_decodes_in_turn_do_not_touch_one_another():
    settings = DecodeSettings(window=3, commit=1.0, gamma=0.97)
    parts = parts_of("llama")
    alone = [decode(parts, [request(5, 9, seed=i)], settings) for i in range(2)]
    made = [begun(settings, dtype=torch.float32) for _ in range(2)]
    sheets = [Sheet(request(5, 9, seed=i), mask_id=MASK, n_tokens=N_TOKENS) for i in range(2)]
    made = [CachedEngine(parts, [sheet], settings) for sheet in sheets]
    while any(sheet.open for sheet in sheets):
        for sheet, engine in zip(sheets, made):
            window = sheet.window(settings)
            logits = engine.logits(look(engine, [sheet], [window])[0], parts.head)[0]
            logits[:, MASK] = -torch.inf
            sure, tokens = logits.softmax(-1).max(-1)
            sheet.write(window, tokens.tolist(), sure.tolist(), settings)
    assert all(torch.equal(sheet.answer, found.answers[0]) for sheet, found in zip(sheets, alone))


def test_threads_share_a_model():
    parts, settings = parts_of("qwen3"), DecodeSettings(window=3, commit=1.0, gamma=0.97)
    asked = [request(4 + i, 9, seed=i) for i in range(4)]
    alone = [decode(parts, [each], settings).answers[0] for each in asked]
    found: dict[int, torch.Tensor] = {}

    def work(i):
        found[i] = decode(parts, [asked[i]], settings).answers[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], alone[i]) for i in range(4))


class Failing(Constraint):
    """Breaks down in the third step."""

    asked = 0

    def places(self, ids, places, *, mask_id):
        self.asked += 1
        if self.asked > 3:
            raise RuntimeError("broken")
        return super().places(ids, places, mask_id=mask_id)


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_is_as_it_was(broken):
    model = make_bidirectional(causal("llama"))
    model.train()
    weights = copy.deepcopy(model.state_dict())
    config = model.config.to_dict()

    def inside():
        return [
            (
                name,
                sorted(module.__dict__),
                module.training,
                id(module.__dict__.get("config")),
                len(module._forward_pre_hooks),
            )
            for name, module in model.named_modules()
        ]

    before = inside()
    whole = answers_of()
    constraint = (
        Failing(torch.nonzero(whole.is_item)[:, 0], whole.segments, n_tokens=N_TOKENS, pad=0) if broken else whole
    )
    asked = [request(4, 13, constraint=constraint)]
    parts = DecoderParts.of(model, mask_id=MASK)
    if broken:
        with pytest.raises(RuntimeError, match="broken"):
            decode(parts, asked, DecodeSettings(window=4, commit=1.0))
    else:
        decode(parts, asked, DecodeSettings(window=4, commit=1.0))
    assert inside() == before
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
