"""Decoding with everything refreshed equals decoding without a cache, which equals a loop of ten lines; and what all of them promise."""

from __future__ import annotations

import pytest
import torch

from c2s.engines.constraint import Constraint, Segment
from c2s.engines.elastic_cache.decoding import decode, propose
from c2s.engines.elastic_cache.driver import CachedEngine
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.rivals import RIVALS, PlainEngine, confidence_only, rival, uncached
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Sheet
from c2s.engines.noise import keyed_gumbel
from c2s.errors import ConfigError, ModelError
from tests.engines.elastic_cache.families import (
    FAMILIES,
    MASK,
    N_TOKENS,
    PAD,
    STOP,
    LladaLike,
    answers_of,
    model_of,
    parts_of,
    request,
)  # fmt: skip

ALWAYS = DecodeSettings(window=5, commit=0.15, refresh="always")
ALL = (*FAMILIES, "llada")


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.answers, other.answers, strict=True))


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("constrained", [False, True])
def test_always_writes_what_no_cache_writes(family, dtype, constrained):
    constraint = answers_of() if constrained else None
    asked = [request(3 + i, 10, constraint=constraint, seed=i) for i in range(2)]
    ours, theirs = (each(parts_of(family, dtype), asked, ALWAYS) for each in (decode, uncached))
    assert same(ours, theirs)
    assert ours.accounting.steps.tolist() == theirs.accounting.steps.tolist()
    assert ours.accounting.token_layers.tolist() == theirs.accounting.token_layers.tolist()


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_always_says_what_no_cache_says_along_a_trajectory(family, dtype, bound):
    bound = 1e-5 if family == "gemma2" else bound  # its own softmax is in float32
    assert max(errors(family, ALWAYS, dtype)) <= bound


def errors(family, settings, dtype=torch.float32, seed=0, n_places=12):
    """Return the largest error of logits in each step of one trajectory, two random tokens written a step."""
    parts = parts_of(family, dtype, seed)
    asked = [request(4 + i, n_places, seed=seed + i) for i in range(2)]
    sheets = [Sheet(each, mask_id=MASK, n_tokens=N_TOKENS) for each in asked]
    engine, plain = CachedEngine(parts, sheets, settings), PlainEngine(parts, sheets, settings)
    generator, found = torch.Generator().manual_seed(seed), []
    with torch.no_grad():
        while sheets[0].open:
            windows = [sheet.window(settings) for sheet in sheets]
            ours, theirs = engine.look(sheets, windows), plain.look(sheets, windows)
            found.append(max(float((engine.logits(a, parts.head) - b).abs().max()) for a, b in zip(ours, theirs)))
            for sheet, window in zip(sheets, windows):
                tokens = torch.randint(2, 38, (len(window),), generator=generator).tolist()
                sure = torch.rand(len(window), generator=generator).tolist()
                sheet.write(window, tokens, sure, settings.with_(commit=0.0, max_commits=2))
    return found


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox"])
def test_what_was_just_written_must_be_computed_once_more(family):
    """Without it a written token keeps the keys of a mask, and logits are farther off."""
    settings = DecodeSettings(window=5, refresh="never")
    kept = [errors(family, settings, seed=seed) for seed in range(2)]
    dropped = [errors(family, settings.with_(query_committed=False), seed=seed) for seed in range(2)]
    second = [(a[1], b[1]) for a, b in zip(kept, dropped)]
    assert all(a < b for a, b in second)
    assert sum(map(sum, kept)) < 0.8 * sum(map(sum, dropped))


def test_a_refresh_brings_logits_back():
    settings = DecodeSettings(window=4, refresh="interval", interval=3)
    found = errors("llama", settings, torch.float64)
    assert all(error < 1e-12 for error in found[::3])
    assert all(error > 1e-6 for step, error in enumerate(found[:-1]) if step % 3)


def naive(model, asked, settings, *, right_shift=False, guidance=0.0):
    """Decode one request without a constraint, by full passes, as the algorithm reads."""
    ids = torch.cat([asked.prompt, torch.full((asked.n_places,), MASK)])
    before, steps = len(asked.prompt), 0
    while (ids[before:] == MASK).any():
        window = (torch.nonzero(ids[before:] == MASK)[:, 0] + before)[: settings.window]
        blind = ids.clone()
        blind[:before] = MASK
        with torch.no_grad():
            logits = model(ids[None]).logits[0].double()
            if guidance:
                without = model(blind[None]).logits[0].double()
                logits = without + (guidance + 1) * (logits - without)
        logits[:, MASK] = -torch.inf
        probability = logits[window - int(right_shift)].softmax(-1)
        sure, tokens = probability.max(-1)
        write = sure > settings.commit
        write[sure.argmax()] = True
        ids[window[write]] = tokens[write]
        steps += 1
    return ids[before:], steps


@pytest.mark.parametrize("right_shift", [False, True])
@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_no_cache_is_the_algorithm_as_it_reads(right_shift, guidance):
    parts = DecoderParts.of(model_of("llama", torch.float64), mask_id=MASK, right_shift=right_shift)
    settings = ALWAYS.with_(guidance=guidance)
    for seed in range(2):
        asked = request(5, 9, seed=seed)
        answer, steps = naive(
            model_of("llama", torch.float64), asked, settings, right_shift=right_shift, guidance=guidance
        )
        for found in (uncached(parts, [asked], settings), decode(parts, [asked], settings)):
            assert torch.equal(found.answers[0], answer)
            assert found.accounting.steps.tolist() == [steps]
    elastic = decode(parts, [asked], DecodeSettings(window=5, commit=0.15, guidance=guidance))
    assert elastic.accounting.token_layers.sum() < found.accounting.token_layers.sum()


def test_guidance_moves_answers_and_costs_twice():
    asked = [request(5, 9, seed=seed) for seed in range(3)]
    parts = parts_of("llama")
    none, some = (decode(parts, asked, ALWAYS.with_(max_commits=1, guidance=g)) for g in (0.0, 2.0))
    assert not same(none, some)
    assert some.accounting.token_layers.tolist() == (2 * none.accounting.token_layers).tolist()


@pytest.mark.parametrize(("signal", "gamma"), [("row", 0.97), ("column", 0.9999), ("head", 0.97)])
def test_a_batch_of_ragged_requests_answers_like_one_by_one(signal, gamma):
    constraint = answers_of()
    asked = [request(2 + i, 7 + i % 4, constraint=constraint if i % 3 else None, key=i, seed=i) for i in range(8)]
    settings = DecodeSettings(window=4, commit=0.3, gamma=gamma, tracked=2, signal=signal, temperature=0.7)
    parts = parts_of("qwen3")
    together = decode(parts, asked, settings)
    alone = [decode(parts, [each], settings) for each in asked]
    assert all(torch.equal(a, b.answers[0]) for a, b in zip(together.answers, alone))
    assert together.accounting.token_layers.tolist() == [int(b.accounting.token_layers[0]) for b in alone]
    assert 0 < together.accounting.refresh_rate < 1


@pytest.mark.parametrize("name", [*RIVALS, "elastic", "uncached", "confidence"])
def test_every_way_ends_in_n_steps_with_valid_answers(name):
    constraint = answers_of(9, 3)
    asked = [request(3, n, constraint=constraint, seed=n) for n in (1, 5, 10, 14) if n > 3]
    base, parts = DecodeSettings(window=4, commit=0.2), parts_of("llama")
    ways = {"elastic": lambda: decode(parts, asked, base), "uncached": lambda: uncached(parts, asked, base),
            "confidence": lambda: confidence_only(parts, asked, base)}  # fmt: skip
    found = ways[name]() if name in ways else decode(parts, asked, rival(name, base))
    for each, answer, steps in zip(asked, found.answers, found.accounting.steps):
        assert steps <= each.n_places
        length = answer.tolist().index(STOP)
        items = answer[:length].tolist()
        assert 3 <= length <= 9
        assert len(set(items)) == length
        assert all(2 <= item < 38 for item in items)
        assert (answer[length + 1 :] == PAD).all()


def test_a_threshold_of_zero_writes_the_window_and_one_writes_one_place():
    asked, parts = [request(4, 12)], parts_of("llama")
    assert decode(parts, asked, DecodeSettings(window=5, commit=0.0)).accounting.traces[0].committed == [5, 5, 2]
    assert decode(parts, asked, DecodeSettings(window=5, commit=1.0)).accounting.traces[0].committed == [1] * 12
    two = decode(parts, asked, DecodeSettings(window=5, commit=0.0, max_commits=2))
    assert two.accounting.traces[0].committed == [2] * 6


def test_behind_a_stop_is_padding_that_is_not_asked_for():
    """Hot samples say the stop at some place or other; nothing behind it is looked at again."""
    parts, settings = parts_of("llama"), DecodeSettings(window=4, commit=1.0, temperature=3.0)
    found = decode(parts, [request(4, 30, stop=STOP, pad=PAD, key=key) for key in range(12)], settings)
    early = 0
    for answer, trace in zip(found.answers, found.accounting.traces):
        end = answer.tolist().index(STOP) + 1 if STOP in answer else 30
        early += end < 20
        assert (answer[end:] == PAD).all()
        assert MASK not in answer
        assert len(trace.rows) < 30 or end >= 20
    assert early


def test_seeds():
    parts = parts_of("llama")
    settings = DecodeSettings(window=4, commit=0.4, temperature=1.0)
    one, again, other = (decode(parts, [request(4, 12, key=key)], settings) for key in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)


def test_samples_have_the_models_probabilities():
    parts, temperature, n = parts_of("llama"), 0.8, 300
    keys = torch.randint(1 << 60, (n,), generator=torch.Generator().manual_seed(0)).tolist()
    asked = [request(4, 2, constraint=answers_of(1, 1), key=key) for key in keys]
    settings = DecodeSettings(temperature=temperature, window=1, refresh="never")
    drawn = torch.stack(decode(parts, asked, settings).answers)[:, 0]
    with torch.no_grad():
        logits = parts.plain(torch.cat([asked[0].prompt, torch.full((2,), MASK)]), torch.tensor([4]))[0, 2:38]
    expected = n * (logits.double() / temperature).softmax(-1)
    seen = torch.bincount(drawn, minlength=N_TOKENS)[2:38]
    common = expected > 5
    chi = float(((seen - expected) ** 2 / expected)[common].sum())
    assert chi < 2 * int(common.sum()), chi


def test_a_place_behind_the_end_is_not_sure_of_what_would_stand_there():
    """The probability of padding, which may not be chosen yet, is taken from the others."""
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    beside = torch.tensor([-torch.inf, 0.0, 30.0], dtype=torch.float64)
    chosen, sure = propose(logits, None, 0.0, beside=beside)
    assert torch.equal(chosen, logits.argmax(-1))
    whole = torch.cat([logits, beside[:, None]], 1).softmax(-1)
    torch.testing.assert_close(sure, whole[torch.arange(3), chosen])
    assert sure[2] < 1e-9


def test_confidence_knows_neither_noise_nor_temperature():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    logits[:, 3] = -torch.inf
    noise = keyed_gumbel(torch.arange(4), 0, torch.arange(9)).double()
    chosen, sure = propose(logits, noise, 0.3)
    assert torch.equal(chosen, (logits.double() / 0.3 + noise).argmax(-1))
    torch.testing.assert_close(sure, logits.softmax(-1)[torch.arange(4), chosen])
    assert torch.equal(propose(logits, None, 0.3)[0], logits.argmax(-1))


def test_refusals():
    parts = parts_of("llama")
    settings = DecodeSettings()
    with pytest.raises(ConfigError, match="no requests; give at least one"):
        decode(parts, [], settings)
    with pytest.raises(ConfigError, match="a prompt of shape \\(0,\\) and 4 places"):
        decode(parts, [request(0, 4)], settings)
    with pytest.raises(ConfigError, match="a prompt of shape \\(3,\\) and 0 places"):
        decode(parts, [request(3, 0)], settings)
    with pytest.raises(ConfigError, match="leave stop and pad out"):
        decode(parts, [request(3, 4, constraint=answers_of(), stop=1)], settings)
    with pytest.raises(ConfigError, match="n_places=3 cannot hold any answer of the constraint"):
        decode(parts, [request(3, 3, constraint=answers_of(12, 5))], settings)
    masks = Constraint(torch.arange(2, N_TOKENS), [Segment(5, 1)], n_tokens=N_TOKENS, pad=0)
    with pytest.raises(
        ConfigError, match="a constraint emits tokens up to 39; the model has 40, of which 39 is the mask"
    ):
        decode(parts, [request(3, 4, constraint=masks)], settings)


def test_logits_that_are_not_numbers():
    torch.manual_seed(0)
    broken = LladaLike().eval()
    parts = DecoderParts.of(broken, mask_id=MASK)
    with torch.no_grad():
        broken.model.transformer["ln_f"].weight[0] = float("nan")
    with pytest.raises(ModelError, match="logits are not numbers"):
        decode(parts, [request()], DecodeSettings())
