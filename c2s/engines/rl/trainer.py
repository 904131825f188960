"""The adapter onto TRL: its trainer, with our sampler, our advantages and our loss weights.

Few methods of :class:`trl.GRPOTrainer` are overridden: ``_generate_single_turn`` and ``_generate`` (sampling under a
constraint, cues without loss), ``_get_per_token_logps_and_entropies`` (the same constraint in the loss),
``_calculate_rewards`` (kept for what follows) and ``_generate_and_score_completions`` (advantages, flat groups, averages).
TRL's loss is linear in a positive factor on advantages, so no loss code of its own is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOTrainer

from c2s.engines.rl.advantages import group_advantages
from c2s.engines.rl.hybrid import HybridConfig, SpreadWeights, hybrid_rewards
from c2s.engines.rl.losses import advantage_factor
from c2s.engines.rl.overlong import overlong_penalty
from c2s.engines.rl.recipe import Recipe
from c2s.engines.rl.sampling import Answers, Interruption, PolicyConstraint, constrained_log_probs, sample
from c2s.engines.rl.settings import RunSettings, trl_config
from c2s.errors import ConfigError

Reward = Callable[..., Sequence[float | None]]


class PolicyTrainer(GRPOTrainer):
    """TRL's trainer with a recipe.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
        Of the model; with a pad and an end token.
    prompts : Dataset
        A row a prompt: ``prompt`` (text), and whatever the rewards read.
    rewards : sequence of callables
        Dense ones, added up: ``(completions, completion_ids, **columns) → one number each``, None where there is none;
        TRL's convention.
    verifier : callable, optional
        Of the same form, 1 for a right answer and 0 for a wrong one. It is added to the others, or, with
        ``flat_groups="hybrid"``, joined with them as HERO does. It decides which groups are flat.
    recipe : Recipe
    settings : RunSettings
    out : path
    constraint : PolicyConstraint, optional
        What may be sampled.
    interruption : Interruption, optional
        Needed where the recipe interrupts.
    hybrid : HybridConfig, optional
    **more
        Of :class:`trl.GRPOConfig`.

    Raises
    ------
    ConfigError
        The recipe asks for what is not given, or there is no reward.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Dataset,
        rewards: Sequence[Reward] = (),
        *,
        verifier: Reward | None = None,
        recipe: Recipe,
        settings: RunSettings,
        out: str,
        constraint: PolicyConstraint | None = None,
        interruption: Interruption | None = None,
        hybrid: HybridConfig | None = None,
        **more: Any,
    ) -> None:
        _refuse(recipe, rewards, verifier, interruption)
        self.recipe, self.settings = recipe, settings
        self.constraint = constraint
        self.interruption = interruption if recipe.interrupt else None
        self.hybrid = hybrid or HybridConfig()
        self.spread_weights = SpreadWeights(self.hybrid)
        self.verified = verifier is not None
        self._answers: Answers | None = None
        self._rewards: Tensor | None = None
        super().__init__(
            model=model, reward_funcs=[*rewards, *([verifier] if verifier else [])], args=trl_config(recipe, settings, out, **more),
            train_dataset=prompts, processing_class=tokenizer,
        )  # fmt: skip

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, *args: Any
    ) -> tuple[list[list[int]], list[list[float]]]:
        self._answers = sample(
            self.accelerator.unwrap_model(self.model), prompt_ids, max_tokens=self.settings.max_tokens,
            ends=self.eos_token_ids, pad=self._tokenizer.pad_token_id, generator=self._generator_of_step(),
            temperature=self.settings.temperature, constraint=self.constraint, interruption=self.interruption,
        )  # fmt: skip
        return self._answers.ids, self._answers.log_probs

    def _generator_of_step(self) -> torch.Generator:
        """Return a generator of this step and process alone: nothing is drawn from a state that a checkpoint would have to hold."""
        name = f"{self.settings.seed}, {self._step}, {self.accelerator.process_index}"
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")
        return torch.Generator().manual_seed(seed)

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        found = list(super()._generate(prompts))
        assert self._answers is not None
        found[2] = self._answers.own
        self._metrics["train" if self.model.training else "eval"]["interrupted"].append(
            sum(self._answers.interrupted) / len(self._answers.interrupted)
        )
        return tuple(found)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, batch_size: int | None = None,
        compute_entropy: bool = False, compute_aux_loss: bool = False, **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        if self.constraint is None:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **kwargs,
            )
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            ids, seen = input_ids[start : start + size], attention_mask[start : start + size]
            with self.accelerator.autocast():
                logits = model(
                    input_ids=ids, attention_mask=seen, position_ids=(seen.cumsum(1) - 1).clamp(min=0), use_cache=False,
                    logits_to_keep=logits_to_keep + 1,
                ).logits[:, :-1]  # fmt: skip
            chosen, entropy = constrained_log_probs(
                logits, ids[:, -logits_to_keep:], self.constraint, temperature=self.settings.temperature
            )
            log_probs.append(chosen)
            entropies.append(entropy)
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        batch["old_per_token_logps"] = batch["sampling_per_token_logps"]
        if self.model.training:
            self._weigh(batch)
        return batch

    def _weigh(self, batch: dict[str, Any]) -> None:
        """Replace advantages, mask and number of tokens of a batch by those of the recipe."""
        assert self._rewards is not None
        rewards, own = self._rewards, batch["completion_mask"] * batch["tool_mask"]
        lengths = self.accelerator.gather(own.sum(1))
        groups = torch.arange(len(rewards), device=rewards.device) // self.settings.answers
        verdicts = rewards[:, -1] if self.verified else None
        dense = rewards[:, :-1] if self.verified else rewards
        scores = torch.where(dense.isnan().all(1), torch.nan, dense.nansum(1)) if dense.shape[1] else None
        hybrid = self.recipe.flat_groups == "hybrid"
        if hybrid:
            assert verdicts is not None and scores is not None  # seen to when the trainer was made
            totals = hybrid_rewards(verdicts, scores, groups, self.hybrid)
        else:
            totals = torch.where(rewards.isnan().all(1), torch.nan, rewards.nansum(1))
        if self.recipe.overlong:
            written = self.accelerator.gather(batch["completion_mask"].sum(1)).cpu().numpy()
            penalty = overlong_penalty(written, limit=self.settings.max_tokens, cache=self.recipe.overlong)
            totals = totals + torch.from_numpy(penalty).to(totals)
        found = group_advantages(
            totals, groups, scale=self.recipe.advantage_scale, flat_groups=self.recipe.flat_groups,
            verdicts=verdicts, counted=lengths > 0,
        )  # fmt: skip
        lengths = lengths * found.kept
        values = found.values * advantage_factor(lengths, groups, average=self.recipe.average).to(found.values)
        if hybrid:
            assert scores is not None
            values = values * self.spread_weights(scores, groups).to(values)
        here = slice(self.accelerator.process_index * len(own), (self.accelerator.process_index + 1) * len(own))
        batch["advantages"] = values[here]
        batch["tool_mask"] = batch["tool_mask"] * found.kept[here, None]
        batch["num_items_in_batch"] = lengths.sum()
        self._metrics["train"]["flat_groups"].append(found.flat_share)


def _refuse(
    recipe: Recipe, rewards: Sequence[Reward], verifier: Reward | None, interruption: Interruption | None
) -> None:
    if not rewards and verifier is None:
        msg = "nothing is rewarded; give rewards, a verifier, or both"
        raise ConfigError(msg)
    if recipe.flat_groups == "hybrid" and (verifier is None or not rewards):
        msg = "flat_groups='hybrid' joins a verifier with dense rewards; give both"
        raise ConfigError(msg)
    if recipe.interrupt and interruption is None:
        msg = "the recipe interrupts answers that go on too long; give interruption=, or interrupt=False"
        raise ConfigError(msg)
