"""The elastic algorithm written out for one model, one request and one number at a time, against the engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from c2s.engines.elastic_cache.accounting import NO_REFRESH
from c2s.engines.elastic_cache.calibration import calibrate
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.settings import DecodeSettings
from tests.engines.elastic_cache.families import MASK, model_of, parts_of, request


class Reference:
    """Layers as matrices; every row of the cache is written by hand."""

    def __init__(self, asked, settings):
        self.inside, self.settings = model_of("llada", torch.float64).model.transformer, settings
        self.ids = torch.cat([asked.prompt, torch.full((asked.n_places,), MASK)])
        self.n, self.before = len(self.ids), len(asked.prompt)
        self.sin, self.cos = self.inside["blocks"][0].rotary_emb.get_rotary_embedding(self.n, "cpu")
        self.cache = [
            {
                name: torch.zeros(self.n, width, dtype=torch.float64)
                for name, width in (("q", 32), ("k", 16), ("v", 16), ("h", 32))
            }
            for _ in range(3)
        ]
        self.tracked, self.window, self.drift, self.refreshed = [[]] * 3, [], [], []

    def rotated(self, states, rows):
        states = states.view(len(rows), -1, 8)
        turned = torch.cat([-states[..., 4:], states[..., :4]], -1)
        return (states * self.cos[0, 0, rows][:, None] + turned * self.sin[0, 0, rows][:, None]).flatten(1)

    def attention(self, layer, row):
        """Return weights (heads, n) of one row from the cache as it is."""
        q, k = self.cache[layer]["q"][row].view(4, 8), self.cache[layer]["k"].view(self.n, 2, 8)
        return torch.stack([((k[:, head // 2] @ q[head]) * 8**-0.5).softmax(0) for head in range(4)])

    def watched(self, layer, window):
        """Return the vectors whose cosine is the signal, of the cache as it is."""
        if self.settings.signal == "row":
            return [self.attention(layer, token).mean(0) for token in self.tracked[layer]]
        if self.settings.signal == "head":
            return [head for token in self.tracked[layer] for head in self.attention(layer, token)]
        both = [row for row in window if row in self.window]
        given = [self.attention(layer, row).mean(0) for row in both]
        return [torch.stack([weight[token] for weight in given]) for token in self.tracked[layer]] if both else []

    def step(self, new):
        """Return logits of the window."""
        first = not self.refreshed
        window = [row for row in range(self.n) if self.ids[row] == MASK][: self.settings.window]
        some = sorted({*window, *new, *(token for layer in self.tracked for token in layer)})
        rows = list(range(self.n)) if first else some
        h = self.inside["wte"](self.ids[rows]) * 32**0.5
        chosen, drift, refreshed = [], [], 0 if first else NO_REFRESH
        for layer, block in enumerate(self.inside["blocks"]):
            narrow = not first and refreshed == NO_REFRESH
            past = self.watched(layer, window) if narrow else []
            cache = self.cache[layer]
            for name, values in zip("hqkv", self.projected(block, h, rows)):
                for i, row in enumerate(rows):
                    cache[name][row] = values[i]
            out = []
            for row in rows:
                weight, v = self.attention(layer, row), cache["v"].view(self.n, 2, 8)
                out.append(torch.cat([weight[head] @ v[:, head // 2] for head in range(4)]))
            h = h + block.attn_out(torch.stack(out))
            normed = block.ff_norm(h)
            h = h + block.ff_out(block.act(block.ff_proj(normed)) * block.up_proj(normed))
            votes = sum(self.attention(layer, row).sum(0) for row in window)
            known = [row for row in range(self.n) if self.ids[row] != MASK]
            chosen.append(sorted(known, key=lambda row: -float(votes[row]))[: self.settings.tracked])
            now = self.watched(layer, window) if narrow else []
            sigma = [float(cosine_similarity(a, b, dim=0)) for a, b in zip(past, now)]
            drift.append(1 - sum(sigma) / len(sigma) if sigma else math.nan)
            if sigma and 1 - drift[-1] < self.settings.gamma and layer < 2:
                refreshed = layer + 1
                for i, row in enumerate(rows):
                    self.cache[layer + 1]["h"][row] = h[i]
                rows, h = list(range(self.n)), self.cache[layer + 1]["h"].clone()
        self.tracked, self.window = chosen, window
        self.drift.append(drift)
        self.refreshed.append(refreshed)
        picked = h[[rows.index(row) for row in window]]
        return window, self.inside["ff_out"](self.inside["ln_f"](picked)) * 32**-0.5

    def projected(self, block, h, rows):
        normed = block.attn_norm(h)
        q, k = (self.rotated(f(normed), rows) for f in (block.q_proj, block.k_proj))
        return h, q, k, block.v_proj(normed)

    def decode(self):
        new: list[int] = []
        while (self.ids == MASK).any():
            window, logits = self.step(new)
            logits[:, MASK] = -torch.inf
            sure, tokens = logits.softmax(-1).max(-1)
            write = sure > self.settings.commit
            write[sure.argmax()] = True
            new = [row for row, flag in zip(window, write) if flag]
            self.ids[new] = tokens[write]
        return self.ids[self.before :]


@pytest.mark.parametrize(("signal", "tracked"), [("row", 1), ("row", 3), ("head", 2), ("column", 2)])
@torch.no_grad()
def test_the_engine_does_what_is_written_out(signal, tracked):
    parts, asked = parts_of("llada", torch.float64), [request(5, 12, seed=seed) for seed in range(2)]
    settings = calibrate(
        parts, asked, DecodeSettings(window=4, commit=0.35, signal=signal, tracked=tracked), target=0.4
    )
    for each in asked:
        reference = Reference(each, settings)
        answer = reference.decode()
        found = decode(parts, [each], settings)
        assert torch.equal(found.answers[0], answer)
        trace = found.accounting.traces[0]
        np.testing.assert_allclose(np.array(trace.drift), np.array(reference.drift), rtol=1e-5, atol=1e-9)
        assert trace.refreshed == reference.refreshed
    assert 0 < decode(parts, asked, settings).accounting.refresh_rate < 1
