"""Small worlds in which right answers can be checked: put letters in order; complete a set; and one that a verifier hardly sees.

A model of 0.1 M parameters is taught by imitation until it is right some of the time; reward has to do the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import kendalltau
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from c2s.engines.rl.problem import Problem
from c2s.engines.rl.sampling import Interruption

LETTERS = [chr(ord("a") + i) for i in range(24)]
PAD, END, ASK = 0, 1, 2
FIRST = 3  # token of the first letter
SETS, SET_SIZE, SHOWN = 20, 6, 3
LONGEST = 16
WARM_UP = {"ordering": 60, "completion": 100, "ambiguous": 55}  # steps of imitation

Row = dict[str, Any]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer: a token a letter."""
    words = {"<pad>": PAD, "<end>": END, "?": ASK, **{letter: FIRST + i for i, letter in enumerate(LETTERS)}}
    made = Tokenizer(models.WordLevel(words, "?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>", padding_side="left")


def ordering(n: int, rng: np.random.Generator, sizes: Sequence[int]) -> list[Row]:
    """Return letters in disorder, whose answer is the same letters in order; more letters are harder."""
    rows = []
    for _ in range(n):
        shown = rng.permutation(24)[: rng.choice(sizes)]
        rows.append(_row([LETTERS[i] for i in shown], [LETTERS[i] for i in sorted(shown)]))
    return rows


def completion(n: int, rng: np.random.Generator, sizes: Sequence[int]) -> list[Row]:
    """Return three letters of a hidden set of six, whose answer is the other three in any order."""
    sets = [np.random.default_rng([7, number]).permutation(24)[:SET_SIZE] for number in range(SETS)]
    rows = []
    for _ in range(n):
        members = rng.permutation(sets[rng.integers(SETS)])
        rows.append(_row([LETTERS[i] for i in members[:SHOWN]], [LETTERS[i] for i in members[SHOWN:]]))
    return rows


def _row(shown: list[str], answer: list[str]) -> Row:
    return {"prompt": " ".join([*shown, "?"]), "answer": " ".join(answer)}


def in_order(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Return 1 for the letters asked for, in order, and nothing else."""
    return [float(said.split() == true.split()) for said, true in zip(completions, answer, strict=True)]


def completed(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Return 1 for exactly the letters that were missing, each once."""
    return [float(sorted(said.split()) == sorted(true.split())) for said, true in zip(completions, answer, strict=True)]


def ordered_share(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Return how far an answer is in order: Kendall's tau of its letters that were asked for, times the share of them it names."""
    found = []
    for said, true in zip(completions, answer, strict=True):
        place = {letter: i for i, letter in enumerate(true.split())}
        named = [place[letter] for letter in dict.fromkeys(said.split()) if letter in place]
        tau = float(kendalltau(range(len(named)), named).statistic) if len(named) > 1 else 0.0
        extra = len(said.split()) - len(named)
        found.append(0.5 * (1 + tau) * len(named) / len(place) - 0.1 * extra)
    return found


def overlap(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """Return letters shared with the true answer over all letters of both."""
    pairs = [(set(said.split()), set(true.split())) for said, true in zip(completions, answer, strict=True)]
    return [len(one & other) / len(one | other) if one | other else 0.0 for one, other in pairs]


def problem(name: str) -> Problem:
    """Return ``ordering``, ``completion``, or ``ambiguous``: ordering in which most prompts are too long to be answered wholly right at
    first, so that only the dense reward tells their answers apart.
    """
    build: Callable[..., list[Row]] = completion if name == "completion" else ordering
    sizes = (7, 8) if name == "ambiguous" else (4, 5, 6)
    rows = build(1200, np.random.default_rng(1), sizes)
    unique = list({row["prompt"]: row for row in rows}.values())
    held_out, prompts = unique[:64], unique[64:576]
    verifier, dense = (completed, overlap) if name == "completion" else (in_order, ordered_share)
    return Problem(
        functools.partial(warm_model, name), tokenizer(), Dataset.from_list(prompts), Dataset.from_list(held_out),
        rewards=[dense], verifier=verifier, interruption=Interruption(LONGEST - 4, LONGEST - 2, (END,)), chance=0.0,
    )  # fmt: skip


def warm_model(name: str, seed: int) -> PreTrainedModel:
    """Return the model that imitation made; the same weights for the same seed."""
    model = _bare(seed)
    model.load_state_dict(_imitated(name, seed))
    return model


def _bare(seed: int) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=FIRST + 24, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=160, max_position_embeddings=64, pad_token_id=PAD, eos_token_id=END, bos_token_id=None,
        )  # fmt: skip
        return AutoModelForCausalLM.from_config(config)


@functools.cache
def _imitated(name: str, seed: int) -> dict[str, torch.Tensor]:
    """Return weights after imitation of right answers to other prompts of the same kind."""
    model, rng = _bare(seed).train(), np.random.default_rng([2, seed])
    build = completion if name == "completion" else ordering
    optimizer, words = torch.optim.AdamW(model.parameters(), lr=3e-3), tokenizer()
    for step in range(WARM_UP[name]):
        rows = build(64, rng, (4, 5, 6, 7, 8) if name == "ambiguous" else (4, 5, 6))
        prompts = [words(row["prompt"])["input_ids"] for row in rows]
        answers = [[*words(row["answer"])["input_ids"], END] for row in rows]
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers))
        ids = torch.tensor([p + a + [PAD] * (longest - len(p) - len(a)) for p, a in zip(prompts, answers)])
        labels = torch.tensor(
            [[-100] * len(p) + a + [-100] * (longest - len(p) - len(a)) for p, a in zip(prompts, answers)]
        )
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 50)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.state_dict()


def problem_ordering() -> Problem:
    """Return ``problem("ordering")``, for ``c2s rl``."""
    return problem("ordering")
