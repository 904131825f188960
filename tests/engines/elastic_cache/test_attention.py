"""Rows against all keys: by hand and fused agree with a loop over heads and places, with caps and windows."""

from __future__ import annotations

import math

import pytest
import torch

from c2s.engines.elastic_cache.attention import Kind, elastic_attention, fused, weighted, weights
from c2s.errors import ModelError

KINDS = [Kind(0.5), Kind(0.5, cap=0.7), Kind(0.5, window=2), Kind(0.3, cap=1.5, window=1), Kind(0.5, window=50)]


def plain(query, key, kind, rows):
    """Return softmax weights, one number at a time."""
    out = torch.zeros(len(query), len(rows), len(key), dtype=query.dtype)
    for head, row in [(h, r) for h in range(len(query)) for r in range(len(rows))]:
        scores = []
        for place in range(len(key)):
            score = float(query[head, row] @ key[place, head // 2]) * kind.scale
            if kind.cap:
                score = kind.cap * math.tanh(score / kind.cap)
            far = kind.window is not None and abs(int(rows[row]) - place) > kind.window
            scores.append(0.0 if far else math.exp(score))
        out[head, row] = torch.tensor(scores) / sum(scores)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_output_equal_a_loop(kind):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 3, 8), (6, 2, 8), (6, 2, 5))
    )
    rows = torch.tensor([0, 2, 5])
    expected = plain(query, key, kind, rows)
    found = weights(query, key, kind, rows)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    out = torch.stack([expected[h] @ value[:, h // 2] for h in range(4)], 1)[None]
    torch.testing.assert_close(weighted(found, value), out, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fused(query, key, value, kind, rows), out, rtol=1e-6, atol=1e-7)


def test_half_precision_weights_are_summed_in_full():
    query = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    key = torch.randn(300, 2, 4, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = weights(query, key, Kind(0.5), torch.tensor([0]))
    assert found.dtype == torch.float32
    assert float((found.sum(-1) - 1).abs().max()) < 1e-5


def test_what_a_layer_asks_for_and_is_not_known():
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ModelError, match="attention with s_aux, which elastic decoding does not know"):
        elastic_attention(torch.nn.Identity(), states, states, states, None, s_aux=torch.zeros(2))
    with pytest.raises(ModelError, match="layers that do not pass arguments on"):
        elastic_attention(torch.nn.Identity(), states, states, states, None)
