"""The adapter onto TRL: its trainer, with our sampler, our advantages and our loss weights.

Few methods of :class:`trl.GRPOTrainer` are overridden: ``_generate_single_turn`` and ``_generate`` (sampling under a
constraint, cues without loss, answers written ahead), ``_get_per_token_logps_and_entropies`` (the same constraint in the loss),
``_calculate_rewards`` (kept for what follows), ``_generate_and_score_completions`` (which prompts; advantages, flat groups,
averages; rollouts) and ``_save_checkpoint`` (the state of schedule and weights). TRL's loss is linear in a positive factor on
advantages, so no loss code of its own is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from c2s.artefacts import read_json, write_json
from c2s.engines.rl.advantages import group_advantages
from c2s.engines.rl.health import unanimous
from c2s.engines.rl.hybrid import SpreadWeights, hybrid_rewards
from c2s.engines.rl.losses import advantage_factor
from c2s.engines.rl.overlong import overlong_penalty
from c2s.engines.rl.pipeline import Pipeline, head_in_float32, policy_copy
from c2s.engines.rl.problem import Problem, check
from c2s.engines.rl.recipes import Recipe
from c2s.engines.rl.rewards import checked
from c2s.engines.rl.rollouts import rollout_rows, write_rollouts
from c2s.engines.rl.sampling import Answers, constrained_log_probs
from c2s.engines.rl.schedule import Schedule
from c2s.engines.rl.settings import RunSettings, trl_config
from c2s.engines.rl.writer import Writer

STATE = "policy.json"  # of a checkpoint, written last: a checkpoint without it is not whole


class PolicyTrainer(GRPOTrainer):
    """TRL's trainer with a recipe.

    Parameters
    ----------
    model : PreTrainedModel
        The policy, trained in place.
    problem : Problem
    recipe : Recipe
    settings : RunSettings
    out : path
        Of checkpoints.
    rollouts : path, optional
        Where every answer is kept (:mod:`c2s.engines.rl.rollouts`).

    Raises
    ------
    ConfigError
        The recipe asks for what the problem has not.
    """

    def __init__(
        self, model: PreTrainedModel, problem: Problem, *, recipe: Recipe, settings: RunSettings, out: str | os.PathLike[str],
        rollouts: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        check(problem, recipe, settings)
        self.recipe, self.settings, self.problem = recipe, settings, problem
        self.rollouts = None if rollouts is None else Path(rollouts)
        self.spread_weights = SpreadWeights(problem.hybrid)
        self.schedule = Schedule(
            len(problem.prompts), settings.prompts, drop_mastered=recipe.drop_mastered, seed=settings.seed
        )
        self.pipeline: Pipeline | None = None
        self._answers: Answers | None = None
        self._inputs: list[dict[str, Any]] = []
        self._begun = 0
        self._rewards: Tensor | None = None
        judges = [problem.verifier] if problem.verifier else []
        reference = policy_copy(model, fp32_logits=recipe.fp32_logits) if recipe.kl else None
        super().__init__(
            model=model, reward_funcs=[checked(reward) for reward in (*problem.rewards, *judges)], args=trl_config(recipe, settings, out),
            train_dataset=problem.prompts, processing_class=problem.tokenizer,
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        if recipe.fp32_logits:
            head_in_float32(self.accelerator.unwrap_model(self.model))
        if reference is not None:  # TRL would read it anew from where the model came, which may be nowhere
            add_fused_lm_head(
                reference,
                temperature=settings.temperature,
                cast_lm_head_to_fp32=recipe.fp32_logits,
                outputs=("log_probs",),
            )
            self.beta = recipe.kl
            self.ref_model = self.accelerator.prepare_model(reference.eval(), evaluation_mode=True)
        self.writer = Writer(
            problem, settings, self._tokenizer, ends=self.eos_token_ids,
            autocast=partial(self.accelerator.autocast, autocast_handler=AutocastKwargs(cache_enabled=False)),
            interruption=problem.interruption if recipe.interrupt else None,
        )  # fmt: skip
        if recipe.staleness is not None:
            self._prompt_ids = self.tokenize(list(problem.prompts["prompt"]))
            own = self.accelerator.unwrap_model(self.model)
            self.pipeline = Pipeline(own, self._write_ahead, staleness=recipe.staleness, fp32_logits=recipe.fp32_logits)
            self.add_callback(_Pipelined(self.pipeline))

    def tokenize(self, prompts: list[Any]) -> list[list[int]]:
        """Return the tokens of prompts as the policy reads them."""
        return list(self._tokenize_prompts(prompts)[0])

    def _asked(self, step: int) -> list[int]:
        """Return the prompt of each answer that this process writes in a step."""
        numbers = [number for number in self.schedule.prompts(step) for _ in range(self.settings.answers)]
        here, n = self.accelerator.process_index, len(numbers) // self.accelerator.num_processes
        return numbers[here * n : (here + 1) * n]

    def _seed(self, step: int) -> str:
        """Return what the draws of a step follow from: no state that a checkpoint would have to hold."""
        return f"{self.settings.seed}, {step}, {self.accelerator.process_index}"

    def _rows(self, asked: list[int]) -> list[dict[str, Any]]:
        """Return the row of each prompt, a copy an answer."""
        rows = {number: self.problem.prompts[number] for number in set(asked)}
        return [dict(rows[number]) for number in asked]

    def _write_ahead(
        self, model: PreTrainedModel, step: int, before_token: Callable[[], None]
    ) -> tuple[Answers, dict[str, float], list[dict[str, Any]]]:
        asked = self._asked(step)
        ids, rows = [self._prompt_ids[number] for number in asked], self._rows(asked)
        return *self.writer(model, ids, rows, self._seed(step), before_token), rows

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, *args: Any
    ) -> tuple[list[list[int]], list[list[float]]]:
        step = self.state.global_step
        if self.pipeline is not None:
            (self._answers, measures, rows), self._begun, _ = self.pipeline.take(step)
            for row, told in zip(self._inputs, rows, strict=True):
                row.update(told)
        else:
            self._begun = step
            model = self.accelerator.unwrap_model(self.model)
            self._answers, measures = self.writer(model, prompt_ids, self._inputs, self._seed(step))
        for name, value in measures.items():
            self._log_mean(name, value)
        return self._answers.ids, self._answers.log_probs

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        found = list(super()._generate(prompts))
        assert self._answers is not None
        found[2] = self._answers.own
        self._log_mean("interrupted", sum(self._answers.interrupted) / len(self._answers.interrupted))
        self._log_mean("cut_off", sum(self._answers.cut) / len(self._answers.cut))
        self._log_mean("lag", float(self.state.global_step - self._begun))
        return tuple(found)

    def _log_mean(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, batch_size: int | None = None,
        compute_entropy: bool = False, compute_aux_loss: bool = False, **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Take probabilities at the places the sampler wrote at: TRL's count padding on the left, which matters to learned positions."""
        log_probs, entropies = [], []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            ids, seen = input_ids[start : start + size], attention_mask[start : start + size]
            places = (seen.cumsum(1) - 1).clamp(min=0)
            told: dict[str, Any] = {"input_ids": ids, "attention_mask": seen, "position_ids": places}
            with self.accelerator.autocast():
                if self.problem.constraint is None:
                    labels = ids.masked_fill(seen == 0, -100)
                    labels[:, :-logits_to_keep] = -100
                    out = model(**told, labels=labels, fused_lm_head=True)
                    chosen, entropy = out.log_probs[:, -logits_to_keep:], out.entropy
                    entropy = None if entropy is None else entropy[:, -logits_to_keep:]
                else:
                    logits = model(**told, use_cache=False, logits_to_keep=logits_to_keep + 1).logits[:, :-1]
                    chosen, entropy = constrained_log_probs(
                        logits, ids[:, -logits_to_keep:], self.problem.constraint, temperature=self.settings.temperature
                    )
            log_probs.append(chosen)
            entropies.append(entropy)
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        step = self.state.global_step
        asked = self._asked(step)  # the schedule decides, whatever the loader gave
        self._inputs = inputs = self._rows(asked)
        batch = super()._generate_and_score_completions(inputs)
        batch["old_per_token_logps"] = batch["sampling_per_token_logps"]
        advantages = self._weigh(batch)
        verdicts = self._verdicts()
        self.schedule.answered(
            step, None if verdicts is None else verdicts.view(self.settings.prompts, -1).cpu().numpy()
        )
        if self.rollouts is not None:
            self._keep(step, asked, inputs, advantages)
        return batch

    def _verdicts(self) -> Tensor | None:
        assert self._rewards is not None
        return self._rewards[:, -1] if self.problem.verifier else None

    def _weigh(self, batch: dict[str, Any]) -> Tensor:
        """Replace advantages, mask and number of tokens of a batch by those of the recipe; return this process's advantages, NaN where dropped."""
        assert self._rewards is not None
        rewards, own = self._rewards, batch["completion_mask"] * batch["tool_mask"]
        lengths = self.accelerator.gather(own.sum(1))
        groups = torch.arange(len(rewards), device=rewards.device) // self.settings.answers
        verdicts = self._verdicts()
        dense = rewards if verdicts is None else rewards[:, :-1]
        scores = torch.where(dense.isnan().all(1), torch.nan, dense.nansum(1)) if dense.shape[1] else None
        hybrid = self.recipe.flat_groups == "hybrid"
        if hybrid:
            assert verdicts is not None and scores is not None  # seen to by check
            totals = hybrid_rewards(verdicts, scores, groups, self.problem.hybrid)
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
        self._log_mean("flat_groups", found.flat_share)
        if verdicts is not None:
            right, wrong = unanimous(verdicts, groups)
            self._log_mean("groups_all_right", right)
            self._log_mean("groups_all_wrong", wrong)
        return values.masked_fill(~found.kept, torch.nan)[here]

    def _keep(self, step: int, asked: list[int], inputs: list[dict[str, Any]], advantages: Tensor) -> None:
        assert self._answers is not None and self._rewards is not None and self.rollouts is not None
        process = self.accelerator.process_index
        here = slice(process * len(asked), (process + 1) * len(asked))
        rows = rollout_rows(
            self._answers, self.writer.decode(self._answers.ids), inputs, asked, version=self._begun,
            rewards=dict(zip(self.reward_func_names, self._rewards[here].T.tolist(), strict=True)), advantages=advantages.tolist(),
        )  # fmt: skip
        write_rollouts(self.rollouts, step, rows, process=process)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            place = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            write_json(
                place / STATE, {"schedule": self.schedule.state(), "spread_weights": self.spread_weights.state()}
            )

    def restore(self, checkpoint: str | os.PathLike[str]) -> None:
        """Take on what a checkpoint knows beside weights and optimizer, before ``train(resume_from_checkpoint=...)``."""
        state = read_json(Path(checkpoint) / STATE)
        self.schedule.restore(state["schedule"])
        self.spread_weights.restore(state["spread_weights"])


class _Pipelined(TrainerCallback):
    """Starts the pipeline with training, tells it of every update, and ends it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pipeline.start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pipeline.push(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.pipeline.close()
