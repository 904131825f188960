"""Losses and gradients against explicit loops in float64; masked tokens are nowhere."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2s.engines.rl.advantages import group_advantages
from c2s.engines.rl.losses import advantage_factor, average_tokens, log_ratio, policy_loss
from c2s.errors import ConfigError, DataError

LENGTHS = (1, 4, 2, 5, 3, 3, 0, 2)
GROUPS = torch.tensor([7, 7, 7, 2, 2, 2, 5, 5])
KNOBS = {
    "clip": {"clip_low": 0.2, "clip_high": 0.28},
    "cispo": {"ratio_cap": 1.5},
    "gspo": {"clip_low": 0.05, "clip_high": 0.1},
}
VALID = [(k, a) for k, a in itertools.product(KNOBS, ("token", "sequence", "prompt")) if k != "gspo" or a == "sequence"]


@pytest.fixture
def batch():
    """Unequal lengths, an answer without tokens, ratios from 0.3 to 3 so that every bound binds on both signs."""
    generator = torch.Generator().manual_seed(3)
    new = -torch.rand(8, 5, generator=generator, dtype=torch.float64) * 3
    old = new + torch.empty_like(new).uniform_(-1.1, 1.1, generator=generator)
    mask = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]
    mask[3, 2] = False  # a cue inside an answer
    advantages = torch.tensor([1.0, -0.5, 0.7, -1.2, 0.4, 0.0, 2.0, -0.3], dtype=torch.float64)
    return new, old, advantages, mask


def brute_force(new, old, advantages, mask, loss, average, clip_low=0.2, clip_high=0.2, ratio_cap=None):
    """Return the loss as a chain of scalars."""
    tokens = {}
    for i in range(len(new)):
        places = [t for t in range(new.shape[1]) if mask[i, t]]
        a = advantages[i]
        for t in places:
            rho = torch.exp(new[i, t] - old[i, t])
            if loss == "gspo":
                rho = torch.exp(sum(new[i, s] - old[i, s] for s in places) / len(places))
            if loss == "cispo":
                tokens[i, t] = -min(rho.item(), ratio_cap) * a * new[i, t]
                continue
            clipped = rho if 1 - clip_low <= rho <= 1 + clip_high else torch.tensor(
                1 - clip_low if rho < 1 - clip_low else 1 + clip_high, dtype=new.dtype
            )  # fmt: skip
            tokens[i, t] = -(rho * a if rho * a <= clipped * a else clipped * a)
    part = {"token": lambda i: 0, "sequence": lambda i: i, "prompt": lambda i: int(GROUPS[i])}[average]
    bins = {}
    for (i, _), value in tokens.items():
        bins.setdefault(part(i), []).append(value)
    return sum(sum(values) / len(values) for values in bins.values()) / len(bins)


def gradient(function, new):
    leaf = new.clone().requires_grad_()
    value = function(leaf)
    value.backward()
    return value.detach(), leaf.grad


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize(("loss", "average"), VALID)
def test_gradient_is_that_of_explicit_loops(batch, loss, average, scale):
    new, old, rewards, mask = batch
    advantages = group_advantages(rewards, GROUPS, scale=scale, counted=mask.any(1)).values
    found, ours = gradient(
        lambda x: policy_loss(x, old, advantages, mask, GROUPS, loss=loss, average=average, **KNOBS[loss]), new
    )
    expected, theirs = gradient(lambda x: brute_force(x, old, advantages, mask, loss, average, **KNOBS[loss]), new)
    assert abs(found - expected) <= 1e-10 * abs(expected)
    assert relative(ours, theirs) <= 1e-5


def test_planted_ratios_exceed_every_bound(batch):
    new, old, _, mask = batch
    rho = torch.exp(new - old)[mask]
    assert (rho > 1.5).any() and (rho < 0.8).any() and ((rho > 0.8) & (rho < 1.2)).any()


def test_cispo_weighs_a_token_by_its_capped_ratio():
    new = torch.log(torch.tensor([[0.9, 0.3]], dtype=torch.float64))
    old = torch.log(torch.tensor([[0.1, 0.6]], dtype=torch.float64))  # ratios 9 and 0.5
    _, found = gradient(
        lambda x: policy_loss(
            x, old, torch.tensor([2.0]), torch.ones(1, 2), torch.zeros(1, dtype=torch.long),
            loss="cispo", average="token", ratio_cap=5.0,
        ), new,
    )  # fmt: skip
    torch.testing.assert_close(found, torch.tensor([[-5.0 * 2 / 2, -0.5 * 2 / 2]], dtype=torch.float64))


@pytest.mark.parametrize(("loss", "average"), VALID)
def test_dropping_flat_groups_gives_the_gradient_of_the_batch_without_them(batch, loss, average):
    new, old, _, mask = batch
    rewards = torch.tensor([1.0, 0.0, 1.0, 0.25, 0.25, 0.25, 0.0, 1.0])
    result = group_advantages(rewards, GROUPS, scale="batch", flat_groups="drop")

    def of(rows):
        left = group_advantages(rewards[rows], GROUPS[rows], scale="batch", flat_groups="drop").values
        return lambda x: policy_loss(
            x[rows], old[rows], left, mask[rows], GROUPS[rows], loss=loss, average=average, **KNOBS[loss]
        )

    _, ours = gradient(
        lambda x: policy_loss(
            x, old, result.values, mask & result.kept[:, None], GROUPS, loss=loss, average=average, **KNOBS[loss]
        ), new,
    )  # fmt: skip
    _, theirs = gradient(of(torch.tensor([0, 1, 2, 6, 7])), new)
    assert relative(ours, theirs) <= 1e-5
    kept = group_advantages(rewards, GROUPS, scale="batch", flat_groups="keep")
    _, diluted = gradient(
        lambda x: policy_loss(x, old, kept.values, mask, GROUPS, loss=loss, average=average, **KNOBS[loss]), new
    )
    assert relative(diluted, theirs) > 0.05


@pytest.mark.parametrize(("loss", "average"), VALID)
def test_a_batch_of_flat_groups_is_a_finite_no_op(batch, loss, average):
    new, old, _, mask = batch
    result = group_advantages(torch.ones(8), GROUPS, scale="batch", flat_groups="drop")
    value, grad = gradient(
        lambda x: policy_loss(
            x, old, result.values, mask & result.kept[:, None], GROUPS, loss=loss, average=average, **KNOBS[loss]
        ), new,
    )  # fmt: skip
    assert value == 0 and (grad == 0).all() and math.isnan(result.flat_share) is False


@pytest.mark.parametrize("rubbish", [torch.inf, -torch.inf, torch.nan, 1e30])
@pytest.mark.parametrize(("loss", "average"), VALID)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_tokens_may_be_anything(batch, loss, average, rubbish, dtype):
    new, old, advantages, mask = batch
    new, old = new.to(dtype), old.to(dtype)
    clean, grad = gradient(
        lambda x: policy_loss(x, old, advantages, mask, GROUPS, loss=loss, average=average, **KNOBS[loss]), new
    )
    for soiled in ((new.masked_fill(~mask, rubbish), old), (new, old.masked_fill(~mask, rubbish))):
        value, found = gradient(
            lambda x, o=soiled[1]: policy_loss(
                x, o, advantages, mask, GROUPS, loss=loss, average=average, **KNOBS[loss]
            ),
            soiled[0],
        )
        assert torch.equal(value, clean) and torch.equal(found, grad) and (found[~mask] == 0).all()


def test_huge_ratios_stay_finite_in_half_precision():
    new, old = torch.tensor([[-0.1]], dtype=torch.bfloat16), torch.tensor([[-300.0]], dtype=torch.bfloat16)
    value, grad = gradient(
        lambda x: policy_loss(x, old, torch.tensor([-1.0]), torch.ones(1, 1), torch.zeros(1, dtype=torch.long)), new
    )
    assert value.isfinite() and grad.isfinite().all()
    assert log_ratio(new, old, torch.ones(1, 1)).item() == 20.0


@pytest.mark.parametrize(("loss", "average"), VALID)
def test_factor_turns_a_token_normalised_loss_into_the_average(batch, loss, average):
    """As TRL divides: the sum over tokens by the tokens of the batch, sequence ratios broadcast over tokens."""
    new, old, advantages, mask = batch
    lengths = mask.sum(1)
    factor = advantage_factor(lengths, GROUPS, average=average)
    assert (factor > 0).all()

    def trl(x):
        difference = x - old
        if loss == "gspo":
            difference = ((difference * mask).sum(1) / lengths.clamp(min=1))[:, None]
        rho, a = difference.exp(), (advantages * factor)[:, None]
        knobs = KNOBS[loss]
        if loss == "cispo":
            values = -rho.clamp(max=knobs["ratio_cap"]).detach() * a * x
        else:
            values = -torch.minimum(rho * a, rho.clamp(1 - knobs["clip_low"], 1 + knobs["clip_high"]) * a)
        return (values * mask).sum() / lengths.sum()

    _, theirs = gradient(trl, new)
    _, ours = gradient(
        lambda x: policy_loss(x, old, advantages, mask, GROUPS, loss=loss, average=average, **KNOBS[loss]), new
    )
    assert relative(ours, theirs) <= 1e-5


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_prompt_mean_knows_nothing_of_the_length_of_other_prompts(data):
    n = data.draw(st.integers(2, 6))
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    values = torch.arange(n * 4, dtype=torch.float64).reshape(n, 4).sin()
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    double = groups == groups[0]  # every token of one prompt twice
    wide = torch.cat([values, values], 1)
    wide_mask = torch.cat([mask, mask & double[:, None]], 1)
    torch.testing.assert_close(
        average_tokens(values, mask, groups, average="prompt"),
        average_tokens(wide, wide_mask, groups, average="prompt"),
    )
    ones = torch.ones_like(values)
    for average in ("token", "sequence", "prompt"):
        assert average_tokens(ones, mask, groups, average=average).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"loss": "cispo"}, "absolute bound"),
        ({"loss": "cispo", "ratio_cap": 0.28}, "at least 1"),
        ({"loss": "clip", "ratio_cap": 5.0}, "no other loss reads it"),
        ({"loss": "gspo", "average": "token"}, "one ratio an answer"),
        ({"loss": "ppo"}, "not 'ppo'"),
        ({"average": "batch"}, "not 'batch'"),
    ],
)
def test_contradictions_are_refused(batch, knobs, message):
    new, old, advantages, mask = batch
    with pytest.raises(ConfigError, match=message):
        policy_loss(new, old, advantages, mask, GROUPS, **knobs)


def test_shapes_that_do_not_fit_are_refused(batch):
    new, old, advantages, mask = batch
    with pytest.raises(DataError, match="all are"):
        policy_loss(new, old[:, :3], advantages, mask, GROUPS)
    with pytest.raises(DataError, match="there are 8 answers"):
        policy_loss(new, old, advantages[:3], mask, GROUPS)
