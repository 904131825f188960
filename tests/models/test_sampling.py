"""Noise that belongs to the question, and samples drawn from exactly the constrained softmax."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from c2s.engines import noise as noise_module
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.noise import keyed_gumbel, noise_keys
from c2s.errors import ConfigError
from c2s.models import prefix, sampling
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import RowCache
from c2s.models.sampling import sample_answers
from tests.memory import LargestTensor
from tests.models.untrained import full_log_probabilities, tiny_transformer

PAD, DOWN, END = 0, 1, 2
ITEMS = tuple(range(5, 17))
V = 20


@pytest.fixture(scope="module")
def model():
    return tiny_transformer(V, initializer_range=0.25)


def constraint_of(*segments, items=ITEMS):
    return Constraint(torch.tensor(items), [Segment(*segment) for segment in segments], n_tokens=V, pad=PAD)


def drawn(model, prefixes, suffixes, constraint, keys, **options):
    decoder = PrefixDecoder(model)
    with decoder.attached():
        return sample_answers(decoder, prefixes, suffixes, constraint, keys, pad=PAD, **options)


# --- noise ---------------------------------------------------------------------------------------------------------


def some_keys(n):
    return torch.from_numpy(noise_keys(0, [f"c{i}" for i in range(n)], 1).ravel().copy())


def test_noise_is_standard_gumbel():
    """Mean Euler's constant, variance pi^2 / 6, skewness 1.1395, and the whole distribution."""
    noise = keyed_gumbel(some_keys(600), 3, torch.arange(500)).double().numpy().ravel()
    n = noise.size
    assert np.isfinite(noise).all()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=4 * math.pi / math.sqrt(6 * n))
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert stats.skew(noise) == pytest.approx(1.1395, abs=0.05)
    assert stats.kstest(noise, "gumbel_r").pvalue > 0.001


def test_noise_of_neighbouring_keys_places_and_tokens_is_uncorrelated():
    keys, tokens = some_keys(300), torch.arange(300)
    places = [keyed_gumbel(keys, place, tokens).numpy() for place in range(3)]
    counted = keyed_gumbel(torch.arange(300), 0, tokens).numpy()  # keys that differ by one bit
    for one, other in [
        (places[0], places[1]), (places[1], places[2]), (places[0][:, :-1], places[0][:, 1:]), (places[0][:-1], places[0][1:]),
        (counted[:, :-1], counted[:, 1:]), (counted[:-1], counted[1:]), (places[0], places[0].T), (places[0][:, 1:], places[1][:, :-1]),
    ]:  # fmt: skip
        off = ~np.eye(*one.shape, dtype=bool)
        assert abs(np.corrcoef(one[off], other[off])[0, 1]) < 0.015


def splitmix(x):
    """Return the finaliser of splitmix64 (Vigna) in unbounded integers."""
    mask = (1 << 64) - 1
    x &= mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@settings(deadline=None, max_examples=100)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5000), st.integers(0, 200_000))
def test_noise_equals_a_reference_in_plain_integers(key, place, token):
    state = splitmix(key + (place + 1) * 0x9E3779B97F4A7C15)
    bits = splitmix(state + (token + 1) * 0xC2B2AE3D27D4EB4F)
    expected = -math.log(-math.log(((bits >> 40) + 0.5) / 2**24))
    found = keyed_gumbel(torch.tensor([key]), place, torch.tensor([token]))
    assert found.shape == (1, 1)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_noise_depends_on_key_place_and_token_only():
    keys, tokens = some_keys(20), torch.arange(50)
    whole = keyed_gumbel(keys, 2, tokens)
    rows, columns = torch.tensor([7, 3, 3]), torch.tensor([40, 0, 13])
    assert torch.equal(keyed_gumbel(keys[rows], 2, tokens[columns]), whole[rows][:, columns])
    assert torch.equal(whole[3], keyed_gumbel(keys[3:4], 2, tokens)[0])
    torch.manual_seed(1)
    assert torch.equal(whole, keyed_gumbel(keys, 2, tokens))
    assert not torch.equal(whole, keyed_gumbel(keys, 3, tokens))


def test_noise_is_made_in_slabs_of_bounded_memory(monkeypatch):
    keys, tokens = some_keys(50), torch.arange(200)
    whole = keyed_gumbel(keys, 1, tokens)
    for slab in (1, 777, 1000):
        monkeypatch.setattr(noise_module, "SLAB", slab)
        with LargestTensor() as largest:
            assert torch.equal(keyed_gumbel(keys, 1, tokens), whole)
        assert largest.nbytes == whole.nbytes


def test_keys_differ_by_seed_cell_and_sample_and_are_fixed_for_ever():
    keys = noise_keys(0, ["a", "b"], 3)
    assert keys.shape == (2, 3)
    assert keys.dtype == np.int64
    assert len({*keys.ravel(), *noise_keys(1, ["a", "b"], 3).ravel()}) == 12
    assert np.array_equal(noise_keys(0, ["b"], 2)[0], keys[1, :2])
    assert noise_keys(7, ["AAACATACAACCAC-1"], 1).item() == 21071149698653688  # results of older runs can be had again


# --- sampling ------------------------------------------------------------------------------------------------------


def reference(model, prompt, constraint, key, temperature):
    """Return one answer, by full forward passes over one row."""
    answer: list[int] = []
    while len(answer) < constraint.max_length:
        log_p = full_log_probabilities(model, prompt + answer)[-1].float()
        allowed = constraint.step(torch.tensor([answer], dtype=torch.long))[0]
        if allowed[PAD]:
            answer.append(PAD)
            continue
        score = (
            log_p
            if temperature == 0
            else log_p / temperature + keyed_gumbel(torch.tensor([key]), len(answer), torch.arange(V))[0]
        )
        answer.append(int(score.masked_fill(~allowed, -torch.inf).argmax()))
    return answer


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 3.0])
def test_every_answer_equals_one_drawn_alone_by_full_forward_passes(model, temperature):
    """Four cells, three drugs, two samples: rows that finish early are dropped along the way."""
    rng = np.random.default_rng(0)
    prefixes = [rng.integers(3, V, n).tolist() for n in (1, 6, 3, 2)]
    suffixes = [[rng.integers(3, V, n).tolist() for n in (2, 1, 4)] for _ in prefixes]
    constraint = constraint_of((4, DOWN), (3, END, 1))
    keys = noise_keys(5, ["a", "b", "c", "d"], 2)
    found = drawn(model, prefixes, suffixes, constraint, keys, temperature=temperature)
    assert found.shape == (4, 3, 2, constraint.max_length)
    assert found.dtype == torch.int64
    lengths = (found != PAD).sum(-1)
    if temperature:
        assert lengths.min() + 2 <= lengths.max()
    for cell, drug, sample in itertools.product(range(4), range(3), range(2)):
        expected = reference(
            model, prefixes[cell] + suffixes[cell][drug], constraint, int(keys[cell, sample]), temperature
        )
        assert found[cell, drug, sample].tolist() == expected


@pytest.fixture
def runs(monkeypatch):
    """Return the prefixes run (cells each time) and the rows run (each time) since the test began."""
    seen: dict[str, list[int]] = {"cells": [], "rows": []}
    prefill, extend = PrefixDecoder.prefill, PrefixDecoder.extend
    monkeypatch.setattr(
        PrefixDecoder,
        "prefill",
        lambda self, cells, **more: (seen["cells"].append(len(cells)), prefill(self, cells, **more))[1],
    )
    monkeypatch.setattr(
        PrefixDecoder, "extend", lambda self, cache, rows, ids, mask: (seen["rows"].append(len(mask)), extend(self, cache, rows, ids, mask))[1]
    )  # fmt: skip
    return seen


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 12, 24, 36])
def test_batches_have_at_most_so_many_rows_and_run_each_prefix_once(model, limit, monkeypatch, runs):
    """Three cells, four drugs and three samples: cells, then drugs, then samples are divided among batches."""
    rng = np.random.default_rng(4)
    prefixes = [rng.integers(3, V, n).tolist() for n in (2, 5, 3)]
    suffixes = [[rng.integers(3, V, n).tolist() for n in (3, 1, 2, 4)] for _ in prefixes]
    constraint, keys = constraint_of((4, DOWN), (3, END, 1)), noise_keys(5, ["a", "b", "c"], 3)
    whole = drawn(model, prefixes, suffixes, constraint, keys)
    assert (runs["cells"], max(runs["rows"])) == ([3], 36)
    runs["cells"].clear()
    runs["rows"].clear()
    monkeypatch.setattr(prefix, "ROWS_PER_BATCH", limit)
    assert torch.equal(drawn(model, prefixes, suffixes, constraint, keys), whole)
    assert sum(runs["cells"]) == 3
    assert max(runs["rows"]) <= limit


def test_a_large_vocabulary_makes_smaller_batches(model, monkeypatch, runs):
    """The rows of a batch times what each holds stay within the budget, though the library is of any size."""
    constraint, keys = constraint_of((4, END)), noise_keys(0, ["a"], 2)
    places = 1 + 1 + constraint.max_length  # a share of the prefix, the suffix, the answer
    held = places * PrefixDecoder(model).bytes_per_place + sampling.BYTES_PER_TOKEN * V
    drugs = [[5 + i % 9] for i in range(23)]
    whole = drawn(model, [[3, 4]], [drugs], constraint, keys)
    assert max(runs["rows"]) == 46
    runs["rows"].clear()
    monkeypatch.setitem(prefix.BATCH_BYTES, "cpu", 10 * held)
    assert torch.equal(drawn(model, [[3, 4]], [drugs], constraint, keys), whole)
    assert max(runs["rows"]) == 10
    wide = Constraint(torch.tensor(ITEMS), [Segment(4, END)], n_tokens=V + 10 * held, pad=PAD)
    runs["rows"].clear()
    assert torch.equal(drawn(model, [[3, 4]], [drugs], wide, keys), whole)
    assert max(runs["rows"]) == 1


@pytest.mark.parametrize("shape", [(1, 200, 2), (200, 1, 2)], ids=["drugs", "cells"])
def test_sampling_holds_four_bytes_per_row_and_token_in_one_piece(shape, monkeypatch):
    """Logits, or noise, or a mask; none in 64 bits, which one library of drugs made gigabytes of."""
    n_cells, n_drugs, n_samples = shape
    monkeypatch.setattr(noise_module, "SLAB", 1000)
    wide = tiny_transformer(4000, hidden_size=8, num_attention_heads=2, intermediate_size=8)
    constraint = Constraint(torch.arange(3, 4000), [Segment(3, END)], n_tokens=4000, pad=PAD)
    keys = noise_keys(0, [str(i) for i in range(n_cells)], n_samples)
    with LargestTensor() as largest:
        drawn(wide, [[3]] * n_cells, [[[4]] * n_drugs] * n_cells, constraint, keys)
    assert largest.nbytes <= 4 * 4000 * n_cells * n_drugs * n_samples


def test_rows_that_are_done_are_dropped_and_the_others_go_on_as_they_were(model, monkeypatch):
    """Few genes, so that many answers stop early, at different places in the two cells."""
    sizes = []
    select = RowCache.select
    monkeypatch.setattr(RowCache, "select", lambda self, rows: (sizes.append(len(rows)), select(self, rows)))
    prefixes, suffixes = [[3, 9], [4, 4, 18]], [[[5], [6, 7], [8]], [[19], [5, 5], [3]]]
    constraint, keys = constraint_of((4, END), (2, DOWN), items=ITEMS[:5]), noise_keys(1, ["a", "b"], 4)
    found = drawn(model, prefixes, suffixes, constraint, keys, temperature=2.0)
    assert len(sizes) >= 3
    assert sizes == sorted(sizes, reverse=True)
    assert all(size % 2 == 0 for size in sizes)
    for cell, drug, sample in itertools.product(range(2), range(3), range(4)):
        expected = reference(model, prefixes[cell] + suffixes[cell][drug], constraint, int(keys[cell, sample]), 2.0)
        assert found[cell, drug, sample].tolist() == expected


def test_temperature_zero_ignores_the_noise(model):
    constraint = constraint_of((5, END, 1))
    one, other = (
        drawn(model, [[3, 4]], [[[5], [6]]], constraint, noise_keys(s, ["a"], 2), temperature=0.0) for s in (0, 1)
    )
    assert torch.equal(one, other)
    assert torch.equal(one[:, :, 0], one[:, :, 1])


def exact_probabilities(model, prompt, constraint, temperature):
    """Return the probability of every possible answer, by walking the tree with full forward passes."""
    out: dict[tuple[int, ...], float] = {}

    def walk(answer, log_p):
        allowed = constraint.step(torch.tensor([answer], dtype=torch.long))[0]
        if allowed[PAD]:
            out[tuple(answer)] = math.exp(log_p)
            return
        scores = full_log_probabilities(model, prompt + answer)[-1] / temperature
        scores = torch.log_softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1)
        for token in torch.nonzero(allowed)[:, 0].tolist():
            walk([*answer, token], log_p + float(scores[token]))

    walk([], 0.0)
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_answers_come_at_the_frequencies_of_the_constrained_softmax(model, temperature):
    """First token, and whole answers: up to two of four genes, 17 outcomes, 6,000 draws."""
    constraint, prompt, n = constraint_of((2, END), items=ITEMS[:4]), [3, 4, 7, 9], 6000
    exact = exact_probabilities(model, prompt, constraint, temperature)
    assert len(exact) == 17
    assert sum(exact.values()) == pytest.approx(1.0)
    found = drawn(
        model, [prompt[:-1]], [[prompt[-1:]]], constraint, noise_keys(11, ["cell"], n), temperature=temperature
    )
    answers = [tuple(token for token in row if token != PAD) for row in found[0, 0].tolist()]
    for cut in (1, 3):
        expected: dict[tuple[int, ...], float] = {}
        for answer, p in exact.items():
            expected[answer[:cut]] = expected.get(answer[:cut], 0.0) + p
        counts = dict.fromkeys(expected, 0)
        for answer in answers:
            counts[answer[:cut]] += 1
        common = [answer for answer, p in expected.items() if n * p >= 5]
        seen = np.array([*(counts[a] for a in common), n - sum(counts[a] for a in common)], dtype=float)
        wanted = np.array([*(n * expected[a] for a in common), n * (1 - sum(expected[a] for a in common))])
        keep = wanted > 1e-6
        assert stats.chisquare(seen[keep], wanted[keep] * seen[keep].sum() / wanted[keep].sum()).pvalue > 0.001


def test_drugs_of_a_cell_share_its_noise(model):
    """Two rows with the same prompt give the same answer, whatever stands between them; samples differ."""
    constraint = constraint_of((6, END, 6))
    found = drawn(model, [[3, 4]], [[[5], [9], [5]]], constraint, noise_keys(0, ["a"], 3))
    assert torch.equal(found[:, 0], found[:, 2])
    assert len({tuple(row) for row in found[0, 0].tolist()}) > 1


@pytest.mark.parametrize("temperature", [-1.0, math.nan, math.inf])
def test_temperatures_that_mean_nothing_are_refused(model, temperature):
    with pytest.raises(ConfigError, match="temperature is .*; give 0"):
        drawn(model, [[3]], [[[4]]], constraint_of((1, END)), noise_keys(0, ["a"], 1), temperature=temperature)
