"""What a policy is trained on: prompts, rewards, and the model to begin with. An application writes one; the engine runs it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2s.artefacts import hash_of, plain
from c2s.engines.rl.episodes import MultiTurn
from c2s.engines.rl.hybrid import HybridConfig
from c2s.engines.rl.recipes import Recipe
from c2s.engines.rl.rewards import Reward, checked, reward_name
from c2s.engines.rl.sampling import Interruption, PolicyConstraint
from c2s.engines.rl.settings import RunSettings
from c2s.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """A task for reinforcement learning.

    Attributes
    ----------
    model : callable
        Seed → the policy to begin with, which must sometimes be right: without a reward there is nothing to reinforce.
    tokenizer : PreTrainedTokenizerBase
        With a pad and an end token.
    prompts, held_out : Dataset
        A row a prompt: ``prompt`` (text), and whatever the rewards read. No prompt is in both.
    rewards : sequence of callables
        Dense ones, added up: ``(prompts, completions, completion_ids, **columns) → one number each``, None where there is none.
    verifier : callable, optional
        Of the same form: 1 right, 0 wrong.
    held_out_reward : callable, optional
        What held-out answers are scored by: the verifier, or without one the sum of the rewards, where it is left out.
    constraint : PolicyConstraint, optional
        What may be sampled.
    interruption : Interruption, optional
        For recipes that interrupt.
    multi_turn : MultiTurn, optional
        The policy answers in several turns, between which an environment replies. Rewards are told ``calls`` and ``succeeded_calls`` of
        each episode.
    hybrid : HybridConfig
        For recipes that join verifier and rewards.
    chance : float, optional
        The reward of a guess, to hold the curve against.
    same_prompts : bool
        The prompts are all there are, as where a condition has few values: held-out answers are to the same ones, and only the draws are
        new. ``held_out_reward`` can still be one that was not trained on.

    Raises
    ------
    ConfigError
        Neither rewards nor a verifier, a data set without ``prompt`` or without rows, or prompts that are in both.
    """

    model: Callable[[int], PreTrainedModel]
    tokenizer: PreTrainedTokenizerBase
    prompts: Dataset
    held_out: Dataset
    rewards: Sequence[Reward] = ()
    verifier: Reward | None = None
    held_out_reward: Reward | None = None
    constraint: PolicyConstraint | None = None
    interruption: Interruption | None = None
    multi_turn: MultiTurn | None = None
    hybrid: HybridConfig = field(default_factory=HybridConfig)
    chance: float | None = None
    same_prompts: bool = False

    def __post_init__(self) -> None:
        if not self.rewards and self.verifier is None:
            msg = "nothing is rewarded; give rewards, a verifier, or both"
            raise ConfigError(msg)
        for name, data in (("prompts", self.prompts), ("held_out", self.held_out)):
            if not len(data) or "prompt" not in data.column_names:
                msg = f"{name} has {len(data)} rows and the columns {', '.join(data.column_names) or 'none'}; expected a column prompt, and at least one row"
                raise ConfigError(msg)
        for name, data in (("prompts", self.prompts), ("held_out", self.held_out)):
            if not all(isinstance(prompt, str) for prompt in data["prompt"]):
                msg = f"{name} holds prompts that are no texts; render conversations with the tokenizer's apply_chat_template(..., tokenize=False) first"
                raise ConfigError(msg)
        named = [reward_name(reward) for reward in (*self.rewards, *([self.verifier] if self.verifier else []))]
        if len(set(named)) < len(named):
            msg = f"rewards are told apart by their names, and these are {', '.join(named)}; give each its own __name__"
            raise ConfigError(msg)
        if self.tokenizer.pad_token_id is None or self.tokenizer.eos_token_id is None:
            msg = "the tokenizer has no pad or no end token; set tokenizer.pad_token and tokenizer.eos_token"
            raise ConfigError(msg)
        if self.multi_turn and (self.constraint or self.interruption):
            msg = (
                "several turns go with neither a constraint nor an interruption: both are of one answer; leave them out"
            )
            raise ConfigError(msg)
        shared = set(map(str, self.prompts["prompt"])) & set(map(str, self.held_out["prompt"]))
        if shared and not self.same_prompts:
            msg = f"{len(shared)} held-out prompts are trained on, such as {min(shared)!r}; keep the two apart, or say same_prompts=True where there are no others"
            raise ConfigError(msg)

    def fingerprint(self) -> str:
        """Return 16 hex digits that name prompts, held-out prompts, the rewards by their names, and how answers are written.

        What a reward or the model's function does is not known: a run or a grid whose rewards were rewritten needs another folder.
        """
        named = [reward_name(reward) for reward in (*self.rewards, self.judge)] + [str(self.verifier is not None)]
        written = [type(self.constraint).__name__, plain(self.interruption), self.multi_turn is not None]
        return hash_of(plain(self.prompts.to_list()), plain(self.held_out.to_list()), named, written)

    @property
    def judge(self) -> Reward:
        """What held-out answers are scored by."""
        return self.held_out_reward or self.verifier or self.total

    def total(self, **told: object) -> list[float | None]:
        """Return the sum of the rewards of each answer; None where none has a value."""
        columns = [checked(reward)(**told) for reward in self.rewards]
        rows = [[value for value in values if value is not None] for values in zip(*columns, strict=True)]
        return [sum(values) if values else None for values in rows]


def check(problem: Problem, recipe: Recipe, settings: RunSettings) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises
    ------
    ConfigError
        The recipe asks for what the problem has not, or the settings have no room for it.
    """
    if recipe.flat_groups == "hybrid" and (problem.verifier is None or not problem.rewards):
        msg = "flat_groups='hybrid' joins a verifier with dense rewards; give both"
        raise ConfigError(msg)
    if recipe.interrupt and problem.interruption is None:
        msg = "the recipe interrupts answers that go on too long; give the problem an interruption=, or the recipe interrupt=False"
        raise ConfigError(msg)
    if recipe.interrupt and problem.interruption is not None:
        problem.interruption.check(settings.max_tokens)
    if recipe.drop_mastered is not None and problem.verifier is None:
        msg = "drop_mastered reads which answers were right; give the problem a verifier=, or the recipe drop_mastered=None"
        raise ConfigError(msg)
    if recipe.overlong > settings.max_tokens:
        msg = f"overlong={recipe.overlong} is the last part of max_tokens={settings.max_tokens}; lower it or raise max_tokens"
        raise ConfigError(msg)
    if len(problem.prompts) < settings.prompts:
        msg = (
            f"there are {len(problem.prompts)} prompts and a step asks {settings.prompts}; lower prompts= or give more"
        )
        raise ConfigError(msg)


def check_model(model: PreTrainedModel, recipe: Recipe) -> None:
    """Refuse a model that the recipe cannot be run on.

    Raises
    ------
    ConfigError
        Logits are asked for in float32 of a model whose tied embeddings TRL does not find.
    """
    if (
        recipe.fp32_logits
        and model.config.tie_word_embeddings
        and not hasattr(getattr(model, "model", None), "embed_tokens")
    ):
        msg = f"fp32_logits is not to be had for {type(model).__name__}, whose output layer is tied to embeddings of another name; leave it out (fp32_logits=False), or untie them (tie_word_embeddings=False in its config)"
        raise ConfigError(msg)


def load_problem(spec: str) -> Problem:
    """Return the problem that ``package.module:name`` names: a :class:`Problem`, or a function without arguments that returns one.

    The module is imported, which runs it: name none that you do not trust.

    Raises
    ------
    ConfigError
        There is no such module or name, or it is something else.
    """
    found = load_object(spec)
    if not isinstance(found, Problem) and callable(found):
        asked = [
            each.name
            for each in inspect.signature(found).parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        if asked:
            msg = (
                f"{spec} takes {', '.join(asked)}; expected a Problem, or a function without arguments that returns one"
            )
            raise ConfigError(msg)
        found = found()
    if not isinstance(found, Problem):
        msg = f"{spec} is a {type(found).__name__}; expected a Problem, or a function that returns one"
        raise ConfigError(msg)
    return found


def load_object(spec: str) -> object:
    """Return what ``package.module:name`` names.

    Raises
    ------
    ConfigError
        There is no such module or name.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        msg = f"{spec!r} names nothing; write package.module:name"
        raise ConfigError(msg)
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        msg = f"the module {module!r} cannot be imported: {error}"
        raise ConfigError(msg) from error
    except AttributeError as error:
        msg = f"the module {module!r} has no {name!r}"
        raise ConfigError(msg) from error
