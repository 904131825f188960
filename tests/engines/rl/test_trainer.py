"""The adapter onto TRL, against a loss written out: every recipe, unequal lengths, flat groups, a constraint, a cue."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2s.engines.constraint import Constraint, Segment
from c2s.engines.rl.advantages import group_advantages
from c2s.engines.rl.losses import policy_loss
from c2s.engines.rl.recipes import PRESETS, recipe, without
from c2s.engines.rl.sampling import Interruption, sample
from c2s.engines.rl.settings import RunSettings
from c2s.engines.rl.trainer import PolicyTrainer
from c2s.errors import ConfigError
from tests.engines.rl import toy

SETTINGS = RunSettings(steps=2, prompts=4, answers=4, max_tokens=6, batch_size=16, learning_rate=1e-3)


def constraint():
    return Constraint(torch.arange(3, 15), [Segment(5, 1, 1)], n_tokens=15, pad=0)


def lengths(completion_ids, **columns):
    return [len(ids) / 6 for ids in completion_ids]


def right(completion_ids, **columns):
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def trainer(tmp_path, chosen, *, model=None, settings=SETTINGS, **more):
    asked = toy.problem(**{"rewards": [lengths], **more})
    return PolicyTrainer(model or toy.model(), asked, recipe=chosen, settings=settings, out=str(tmp_path))


def scored(made):
    made.model.train()
    return made._generate_and_score_completions([])


def gradient(loss, model):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None])


SYNCHRONOUS = {"staleness": None, "drop_mastered": None}
ARMS = {
    "grpo": recipe("grpo", kl=0.0), "dapo": recipe("dapo"), "gspo": recipe("gspo"), "tcr": recipe("grpo_tcr", overlong=3),
    "scalerl": recipe("scalerl", interrupt=False, **SYNCHRONOUS), "plain scale": recipe("grpo", kl=0.0, advantage_scale="none", average="prompt"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("constrained", [False, True])
def test_the_gradient_is_that_of_the_loss_written_out(tmp_path, name, constrained):
    chosen = ARMS[name]
    made = trainer(tmp_path, chosen, constraint=constraint() if constrained else None)
    made.current_gradient_accumulation_steps = 1
    batch = scored(made)
    rewards = torch.tensor([len_ / 6 for len_ in batch["completion_mask"].sum(1).tolist()])
    if chosen.overlong:
        rewards = rewards + ((6 - 3 - batch["completion_mask"].sum(1)) / 3).clamp(-1, 0)
    groups = torch.arange(16) // 4
    wanted = group_advantages(rewards, groups, scale=chosen.advantage_scale, flat_groups=chosen.flat_groups)
    drift = 0.3 * torch.randn(batch["old_per_token_logps"].shape, generator=torch.Generator().manual_seed(0))
    batch["old_per_token_logps"] = batch["old_per_token_logps"] + drift
    ours = gradient(made._compute_loss(made.model, batch), made.model)

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    n = batch["completion_ids"].shape[1]
    log_probs, _, _ = made._get_per_token_logps_and_entropies(made.model, ids, seen, n)
    loss = policy_loss(
        log_probs, batch["old_per_token_logps"], wanted.values, batch["completion_mask"] * wanted.kept[:, None], groups,
        loss=chosen.loss, average=chosen.average, clip_low=chosen.clip_low, clip_high=chosen.clip_high, ratio_cap=chosen.ratio_cap,
    )  # fmt: skip
    theirs = gradient(loss, made.model)
    assert theirs.norm() > 0
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.parametrize("constrained", [False, True])
def test_the_divergence_is_from_the_model_that_training_began_with(tmp_path, constrained):
    """k3 of Schulman, times the ratio, averaged over tokens; the reference is a copy, whatever the model came from."""
    made = trainer(tmp_path, recipe("grpo", kl=0.5), constraint=constraint() if constrained else None)
    made.current_gradient_accumulation_steps = 1
    begun = [parameter.detach().clone() for parameter in made.ref_model.parameters()]
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    batch = scored(made)
    assert all(map(torch.equal, begun, made.ref_model.parameters()))
    whole = gradient(made._compute_loss(made.model, batch), made.model)
    made.beta = 0.0
    without_it = gradient(made._compute_loss(made.model, batch), made.model)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    n, mask = batch["completion_ids"].shape[1], batch["completion_mask"]
    now, _, _ = made._get_per_token_logps_and_entropies(made.model, ids, seen, n)
    with torch.no_grad():
        then, _, _ = made._get_per_token_logps_and_entropies(made.ref_model, ids, seen, n)
    apart = (then - now).exp() - (then - now) - 1
    apart = apart * (now - batch["old_per_token_logps"]).exp()
    expected = gradient(0.5 * (apart * mask).sum() / mask.sum(), made.model)
    assert expected.norm() > 0
    assert (whole - without_it - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("constrained", [False, True])
def test_the_sampler_and_the_loss_agree_on_the_policy(tmp_path, constrained, family):
    """GPT-2 learns its positions, which padding on the left must not shift."""
    model = toy.learned_positions() if family == "gpt2" else None
    made = trainer(tmp_path, ARMS["dapo"], model=model, constraint=constraint() if constrained else None)
    batch = scored(made)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    found, entropy, _ = made._get_per_token_logps_and_entropies(
        made.model, ids, seen, batch["completion_ids"].shape[1], compute_entropy=True
    )
    mask = batch["completion_mask"].bool()
    ratio = (found - batch["old_per_token_logps"]).exp()[mask]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-4)
    assert bool(torch.isfinite(entropy).all())
    if constrained:
        made.problem = replace(made.problem, constraint=None)  # a loss that ignores the mask
        blind, _, _ = made._get_per_token_logps_and_entropies(made.model, ids, seen, batch["completion_ids"].shape[1])
        assert float((blind - batch["old_per_token_logps"]).exp()[mask].sub(1).abs().max()) > 0.05


def test_in_float64_the_ratio_is_one_to_a_millionth():
    model = toy.model().double()
    made = sample(
        model,
        [[3, 4], [5]],
        max_tokens=6,
        ends=[1],
        pad=0,
        generator=torch.Generator().manual_seed(0),
        constraint=constraint(),
    )
    for prompt, ids, log_probs in zip([[3, 4], [5]], made.ids, made.log_probs, strict=True):
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        logits = logits.masked_fill(~constraint().sequence(torch.tensor([ids]))[0], -torch.inf)
        wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(log_probs, dtype=torch.float64), wanted, rtol=0, atol=1e-6)


def test_a_batch_of_flat_groups_changes_nothing(tmp_path):
    made = trainer(tmp_path, ARMS["dapo"], rewards=[lambda completion_ids, **columns: [1.0] * len(completion_ids)])
    made.current_gradient_accumulation_steps = 1
    batch = scored(made)
    loss = made._compute_loss(made.model, batch)
    assert loss.item() == 0 and not gradient(loss, made.model).any()


def test_tokens_of_a_cue_carry_no_loss(tmp_path):
    cue = Interruption(2, 3, (14, 1))
    made = trainer(tmp_path, recipe("scalerl", **SYNCHRONOUS), interruption=cue)
    batch = scored(made)
    cued = torch.tensor(made._answers.interrupted)
    assert cued.any()
    for row in cued.nonzero().flatten().tolist():
        written = int(batch["completion_mask"][row].sum())
        assert batch["completion_ids"][row, written - 2 : written].tolist() == [14, 1]
        learned = (batch["tool_mask"] * batch["completion_mask"])[row]
        assert not learned[written - 2 :].any()


def test_hybrid_rewards_rank_groups_that_the_verifier_does_not(tmp_path):
    settings = {"loss": "clip", "average": "token", "advantage_scale": "batch"}
    hybrid = trainer(
        tmp_path,
        recipe("grpo", kl=0.0, flat_groups="hybrid", **{**settings}),
        verifier=lambda completion_ids, **c: [0.0] * len(completion_ids),
    )
    assert scored(hybrid)["advantages"].abs().sum() > 0
    dropped = trainer(
        tmp_path,
        recipe("grpo", kl=0.0, flat_groups="drop", **settings),
        rewards=[],
        verifier=lambda completion_ids, **c: [0.0] * len(completion_ids),
    )
    assert scored(dropped)["advantages"].abs().sum() == 0


def test_a_run_is_the_same_twice_and_learns(tmp_path):
    settings = SETTINGS.with_(steps=30, learning_rate=5e-3)
    ends = []
    for name in ("one", "two"):
        made = trainer(tmp_path / name, ARMS["dapo"], settings=settings, constraint=constraint(), rewards=[right])
        made.train()
        rewards = [row["reward"] for row in made.state.log_history if "reward" in row]
        ends.append(torch.cat([p.detach().flatten() for p in made.model.parameters()]))
    assert torch.equal(*ends)
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 0.3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "cispo"}, "needs ratio_cap"),
        ({"ratio_cap": 5.0}, "read by loss='cispo' only"),
        ({"loss": "gspo", "average": "token"}, "average must be 'sequence'"),
        ({"flat_groups": "hybrid"}, "as loud as"),
        ({"interrupt": True, "overlong": 4}, "choose one"),
        ({"flat_groups": "hybrid", "advantage_scale": "batch", "overlong": 4}, "a long right answer below a wrong one"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        recipe("grpo", **changes)


def test_what_a_recipe_needs_must_be_given(tmp_path):
    with pytest.raises(ConfigError, match="nothing is rewarded"):
        trainer(tmp_path, recipe("grpo"), rewards=[])
    with pytest.raises(ConfigError, match="interruption="):
        trainer(tmp_path, recipe("scalerl"))
    with pytest.raises(ConfigError, match="drop_mastered reads which answers were right"):
        trainer(tmp_path, recipe("scalerl", interrupt=False))
    with pytest.raises(ConfigError, match="give both"):
        trainer(tmp_path, recipe("grpo", flat_groups="hybrid", advantage_scale="batch"))
    with pytest.raises(ConfigError, match=r"no recipe 'gpro'; there are grpo"):
        recipe("gpro")


@pytest.mark.parametrize("name", PRESETS)
def test_each_component_of_a_preset_can_be_left_out(name):
    for component, rest in without(name).items():
        assert rest != recipe(name), component


def test_answers_that_a_cue_or_an_environment_ends_are_not_cut_off(tmp_path):
    made = trainer(tmp_path, recipe("scalerl", **SYNCHRONOUS), interruption=Interruption(2, 3, (14,)))
    scored(made)
    assert made._metrics["train"]["interrupted"][-1] > 0.5
    assert made._metrics["train"]["cut_off"][-1] == 0
    plain = trainer(tmp_path, ARMS["dapo"])
    batch = scored(plain)
    whole = (batch["completion_ids"] == 1).any(1)
    assert plain._metrics["train"]["cut_off"][-1] == pytest.approx(1 - whole.double().mean().item())


def test_weights_of_spread_act_on_the_advantages(tmp_path):
    from c2s.engines.rl.hybrid import HybridConfig

    made = trainer(
        tmp_path, recipe("grpo", kl=0.0, flat_groups="hybrid", advantage_scale="batch"),
        verifier=right, hybrid=HybridConfig(warm_up=1),
    )  # fmt: skip
    scored(made)
    state = made.spread_weights.state()
    assert state["n_prompts"] == 4 and state["usual"] > 0
    made.state.global_step = 1
    weighed = scored(made)["advantages"]
    made.spread_weights.restore({"n_prompts": 0, "usual": 0.0})
    made.state.global_step = 2
    assert weighed.abs().sum() > 0 and made.spread_weights.state()["n_prompts"] == 0
