"""Does constrained decoding write valid sentences only, for any tokenizer, at nearly the speed of decoding without it?

Run: ``python -m benchmarks.constraint.run`` (about a quarter of an hour on 2 cores; the names of pbmc3k where C2S_DATA_DIR
is set, invented ones else).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from benchmarks.card import Figure, write_card
from benchmarks.constraint.drawn import faults, random_answers
from benchmarks.constraint.names import gene_names
from benchmarks.constraint.spelling import KINDS, byte_bpe, sentences
from benchmarks.encoding.timing import in_turn
from c2s.artefacts import hash_of
from c2s.cells.genes import GeneVocabulary
from c2s.engines.trie_constraint import TrieConstraint, TrieState
from c2s.models.constrained import TrieLogits
from c2s.models.gene_trie import gene_constraint
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.wording import SentenceStyle

SENTENCES, N_GENES, BATCH, THREADS, ROUNDS = 10_000, 200, 64, 2, 5
BAR = 0.15  # of the time without the constraint
PROMPT = "Write the 200 strongest genes of a cell of type B cell, the strongest first.\nGenes:\n"


def main() -> None:
    """Measure and write the card."""
    begun, load = time.perf_counter(), os.getloadavg()[0]
    torch.set_num_threads(THREADS)
    source, names = gene_names()
    texts = sentences(names, 2000, 100)
    figures = speed(names, texts) + validity(names, texts)
    write_card(
        Path(__file__).parent, figures,
        data={"name": source, "genes": len(names), "hash": hash_of("\x00".join(names))},
        notes=[
            "Slowdown: transformers' generate with TrieLogits and without, in turn, the same prompts and number of steps, sampling from all tokens; the medians of rounds, the interval from the best and worst pair of rounds. Weights are random: what a token costs does not depend on them.",
            "Sentences that are checked are drawn from Gaussian logits with no model, the harshest case; their text is decoded and read by c2s.tasks.gene_answers.read_genes, and split at spaces to look for repeats.",
            f"One-minute load average at the start: {load:.1f}; other work on the machine slows all figures of time.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def speed(names: tuple[str, ...], texts: list[str]) -> list[Figure]:
    """Return what the constraint costs in ``generate``, as a share of the time without it, and what its own parts take."""
    tokenizer = byte_bpe(texts, 8000)
    begun = time.perf_counter()
    constraint = gene_constraint(tokenizer, names, n_genes=N_GENES, min_genes=N_GENES)
    built = time.perf_counter() - begun
    model = neox(len(tokenizer))
    prompts = torch.tensor([tokenizer(PROMPT)["input_ids"]] * BATCH)
    answers = generate(model, prompts, constraint.max_length + 1, constraint)  # also compiles the kernels
    steps = answers.shape[1]
    for answer in answers:
        text = tokenizer.decode(answer, skip_special_tokens=True)
        if len(set(read_genes(text, GeneVocabulary(names)))) != N_GENES:
            msg = f"a sentence does not hold {N_GENES} genes: {text}"
            raise AssertionError(msg)
    with watched() as own:
        seconds = in_turn(
            {
                "free": lambda: generate(model, prompts, steps),
                "constrained": lambda: generate(model, prompts, steps, constraint),
            },
            rounds=ROUNDS,
        )
    free, constrained = seconds["free"].wall, seconds["constrained"].wall
    slowdown = statistics.median(constrained) / statistics.median(free) - 1
    each = [after / before - 1 for before, after in zip(free, constrained, strict=True)]
    per_step = {name: 1e6 * value / (steps * ROUNDS) for name, value in own.items()}
    n_parameters = sum(p.numel() for p in model.parameters())
    return [
        Figure(
            f"slowdown of generate under the constraint, batch {BATCH}, {N_GENES}-gene sentences", slowdown, min(each), max(each),
            n=ROUNDS, bar=f"<= {BAR}", met=slowdown <= BAR, reason=None if slowdown <= BAR else "see the rows of time a step",
        ),
        Figure("without the constraint, tokens/s", BATCH * steps / statistics.median(free), n=ROUNDS),
        Figure("under the constraint, tokens/s", BATCH * steps / statistics.median(constrained), n=ROUNDS),
        Figure("steps of one generate", steps),
        Figure("TrieLogits as a whole, us a step", per_step["logits"]),
        Figure("of it finding what may come next, us a step", per_step["allowed"]),
        Figure("of it taking the last tokens, us a step", per_step["advance"]),
        Figure("of it the state's beginning, us a step", per_step["start"]),
        Figure(f"memory of the state of {BATCH} answers, MB", 4 * BATCH * constraint.trie.n_nodes / 1e6),
        Figure("building the constraint from the tokenizer, s", built),
        Figure("parameters of the model, millions", n_parameters / 1e6),
    ]  # fmt: skip


def validity(names: tuple[str, ...], texts: list[str]) -> list[Figure]:
    """Return how many of the sentences drawn are invalid or repeat a gene, for each kind of tokenizer."""
    figures = []
    for seed, (kind, trained) in enumerate(KINDS.items()):
        tokenizer = trained(texts, 4000)
        constraint = gene_constraint(tokenizer, names, n_genes=N_GENES)
        drawn = random_answers(constraint, SENTENCES, seed=seed, stop_bias=3.0)
        found = faults(drawn, tokenizer, GeneVocabulary(names), SentenceStyle())
        for fault in ("invalid", "repeated"):
            what = {"invalid": "invalid sentences", "repeated": "sentences with a gene twice"}[fault]
            wrong = found[fault]
            figures.append(
                Figure(
                    f"{kind}: {what}", wrong, n=found["answers"], seeds=[seed], bar="0", met=wrong == 0,
                    reason=f"{wrong} of them" if wrong else None,
                )
            )  # fmt: skip
        figures.append(Figure(f"{kind}: genes a sentence", found["genes"] / found["answers"], n=found["answers"]))
    return figures


def neox(n_tokens: int) -> PreTrainedModel:
    """Return a GPT-NeoX of about seven million random weights."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=n_tokens, hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=1024,
        max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval()


def generate(model: PreTrainedModel, prompts: Tensor, n_steps: int, constraint: TrieConstraint | None = None) -> Tensor:
    """Return answers of up to ``n_steps`` tokens; all answers end early only under the constraint."""
    ends = {} if constraint is None else {"eos_token_id": constraint.pad}
    processors = [] if constraint is None else [TrieLogits(constraint, prompts.shape[1])]
    torch.manual_seed(1)
    out = model.generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, max_new_tokens=n_steps,
        pad_token_id=0, logits_processor=processors, **ends,
    )  # fmt: skip
    return out[:, prompts.shape[1] :]


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Yield the seconds that calls within the block spend in the parts of the constraint."""
    seconds = {"logits": 0.0, "allowed": 0.0, "advance": 0.0, "start": 0.0}

    def timed(owner, method, name):
        plain = getattr(owner, method)

        def call(*args):
            begun = time.perf_counter()
            out = plain(*args)
            seconds[name] += time.perf_counter() - begun
            return out

        return mock.patch.object(owner, method, call)

    with (
        timed(TrieLogits, "__call__", "logits"),
        timed(TrieState, "allowed", "allowed"),
        timed(TrieState, "advance", "advance"),
        timed(TrieConstraint, "start", "start"),
    ):
        yield seconds


if __name__ == "__main__":
    main()
