"""A small language model of fitness: two genes and their single fitness as text in, a bin of the pair's fitness out.

Tokens and sizes are those of the package's models. The answer is one of the bins and nothing else, so its distribution over them is read in one pass, and the
fitness foretold is its mean.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.perturbation.norman import Known, Pairs, Values

if TYPE_CHECKING:
    from torch import Tensor

PRESET = "c2s-micro"
BINS = 40
STEPS, BATCH, RATE = 1000, 64, 2e-3
LOOKS = 10  # at the validation pairs, of which the best is kept
DROPPED = 0.5  # of the names in training, so that a gene without training pairs can be asked about by its fitness alone
SPREAD = 0.02  # about a bin, of noise on the fitness in prompts and answers of training: neighbouring bins mean nearly the same
UNKNOWN = "unknown"


def language_model(known: Known, seed: int) -> tuple[Values, dict[str, Any]]:
    """Return the fitness foretold of the asked pairs, shape (n,), and the step, of those looked at, with the least validation error."""
    import torch
    from transformers import AutoModelForCausalLM

    from c2s.models.presets import preset_config
    from c2s.training.sft import answer_loss

    written = Prompts(known)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = preset_config(
            PRESET,
            n_tokens=len(written.tokenizer),
            pad=written.tokenizer.pad,
            end=written.tokenizer.marks["end"],
            max_length=16,
        )
        model = AutoModelForCausalLM.from_config(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.05)
        best: tuple[float, int, Values] = (float("inf"), 0, np.empty(0))
        for step in range(1, STEPS + 1):
            rows = rng.integers(len(known.training), size=BATCH)
            pairs = rng.permuted(known.training[rows], axis=1)  # either gene first
            single, fitness = (
                values + SPREAD * rng.standard_normal(values.shape)
                for values in (known.single[pairs], known.fitness[rows])
            )
            prompts = written.prompts(pairs, single, drop=rng.random((BATCH, 2)) < DROPPED)
            ids = torch.cat([prompts, written.bins_of(fitness)[:, None]], dim=1)
            weights = torch.zeros(ids.shape)
            weights[:, -1] = 1.0
            optimizer.zero_grad()
            answer_loss(model, {"input_ids": ids, "weights": weights}).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % (STEPS // LOOKS) == 0:
                error = float(((written.foretold(model, known.validation) - known.validation_fitness) ** 2).mean())
                if error < best[0]:
                    best = (error, step, written.foretold(model, known.asked))
    return best[2], {"step": best[1], "validation_mse": best[0]}


def bins_over(known: Known) -> tuple[Values, Values]:
    """Return the inner edges of equal bins over all that is known, shape (BINS - 1,), and the mean training fitness in each, shape (BINS,)."""
    values = np.concatenate([known.single, known.fitness])
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    place = np.digitize(known.fitness, edges[1:-1])
    filled = np.bincount(place, minlength=BINS)
    means = np.bincount(place, weights=known.fitness, minlength=BINS) / np.maximum(filled, 1)
    return edges[1:-1], np.where(filled > 0, means, middle)


class Prompts:
    """Pairs as token ids: ``<perturbation> gene fitness gene fitness <sentence>``, every word one token."""

    def __init__(self, known: Known) -> None:
        from c2s.cells.genes import GeneVocabulary
        from c2s.models.tokenizer import PartTokenizer, build_tokenizer
        from c2s.tasks.base import Genes

        words = [
            f"{ascii_lowercase[place // 26]}{ascii_lowercase[place % 26]}" for place in range(BINS)
        ]  # digits would be apart
        vocabulary = GeneVocabulary(known.genes)
        self.tokenizer = PartTokenizer(build_tokenizer(vocabulary, [*words, UNKNOWN], n_pieces=1024), vocabulary)
        spelt = self.tokenizer.render([*words, UNKNOWN])
        if len(spelt) != len(words) + 1:
            msg = f"{len(words) + 1} words make {len(spelt)} tokens; give the tokenizer more pieces"
            raise ValueError(msg)
        self.tokens, self.unknown = np.array(spelt[:-1]), spelt[-1]
        self.names = np.array(self.tokenizer.render([Genes(np.arange(len(known.genes), dtype=np.int32))]))
        self.begin, self.end = (self.tokenizer.marks[mark] for mark in ("perturbation", "sentence"))
        self.edges, self.centres = bins_over(known)
        self.single, self.seen = known.single, np.isin(np.arange(len(known.genes)), known.training)

    def prompts(self, pairs: Pairs, single: Values, *, drop: np.ndarray | None = None) -> Tensor:
        """Return prompts, int64 (n, 6); the name of a gene without training pairs, or of one to drop, is "unknown"."""
        import torch

        told = self.seen[pairs] if drop is None else self.seen[pairs] & ~drop
        names = torch.from_numpy(np.where(told, self.names[pairs], self.unknown).astype(np.int64))
        bins = self.bins_of(single)
        begin, end = (torch.full((len(pairs), 1), mark) for mark in (self.begin, self.end))
        return torch.cat([begin, names[:, :1], bins[:, :1], names[:, 1:], bins[:, 1:], end], dim=1)

    def bins_of(self, fitness: Values) -> Tensor:
        """Return the token of the bin of each fitness, int64."""
        import torch

        return torch.from_numpy(self.tokens[np.digitize(fitness, self.edges)].astype(np.int64))

    def foretold(self, model: Any, pairs: Pairs) -> Values:
        """Return the mean over bins of the model's distribution, averaged over both orders of the genes, shape (n,)."""
        import torch

        found = []
        with torch.no_grad():
            for both in (pairs, pairs[:, ::-1]):
                logits = model(input_ids=self.prompts(both, self.single[both])).logits[:, -1, self.tokens]
                found.append(torch.softmax(logits.double(), dim=-1).numpy() @ self.centres)
        return np.mean(found, axis=0)
