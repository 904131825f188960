"""Annotation on a GPU: labels scored from one stored prompt, beside transformers' own batched ways, at the best batch size of each.

Run on a machine with a CUDA GPU: ``python -m benchmarks.serving_gpu.run`` (about two minutes); it writes
``benchmarks/serving_gpu/card.json``. It imports the model layer only: neither anndata nor scanpy need be installed there.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel

from benchmarks.card import Figure, write_card
from benchmarks.serving.floor import matrix_rate, pass_flops
from c2s.models.annotation import label_log_likelihood
from c2s.models.batching import left_padded
from c2s.models.embedding import Passage, embed_passages, gathered
from c2s.models.prefix import PrefixDecoder

logger = logging.getLogger(__name__)

SIZES = {"Pythia-160M": (768, 12, 12), "Pythia-410M": (1024, 24, 16)}  # width, layers, heads
VOCABULARY, CELLS, PROMPT, ROUNDS = 50_304, 512, 458, 3
LABELS = (3, 4, 2, 6, 3, 5, 4, 2, 3)  # tokens of each label, its end among them
SCORED, PEAK = 64, 989.4e12  # cells scored label by label; dense bfloat16 operations per second of an H100 or H200
THEIR_BATCHES, OUR_TOKENS = (64, 256), (1 << 15, 1 << 17)


def build(size: str) -> PreTrainedModel:
    """Return a GPT-NeoX of random weights, bfloat16, on the GPU."""
    width, layers, heads = SIZES[size]
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=2048, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).to("cuda").eval()


def timed(work: Callable[[], Any]) -> list[float]:
    """Return the seconds of three rounds, after one that is not counted."""
    seconds = []
    for number in range(ROUNDS + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        logger.info("round %d: %.2f s", number, seconds[-1])
    return seconds[1:]


def ours(model: PreTrainedModel, prompts: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    """Return the labels' log-likelihoods."""
    decoder = PrefixDecoder(model)
    with decoder.attached():
        return label_log_likelihood(decoder, prompts, labels, n_tokens=VOCABULARY, pad=0, batch_size=4096)


def generated(model: PreTrainedModel, prompts: list[list[int]], size: int) -> None:
    """Write as many tokens as the longest label has, as the reference does, in batches."""
    for start in range(0, len(prompts), size):
        ids, mask = left_padded(prompts[start : start + size], 0, model.device)
        model.generate(
            input_ids=ids, attention_mask=mask.long(), max_new_tokens=max(LABELS), min_new_tokens=max(LABELS), do_sample=False,
            pad_token_id=0,
        )  # fmt: skip


def scored(model: PreTrainedModel, prompts: list[list[int]], labels: list[list[int]], size: int) -> np.ndarray:
    """Return the labels' log-likelihoods by one whole sequence for each cell and label."""
    out = np.empty((len(prompts), len(labels)))
    rows = [(i, k) for i in range(len(prompts)) for k in range(len(labels))]
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            ids, mask = left_padded([[*prompts[i], *labels[k]] for i, k in part], 0, model.device)
            logits = model(input_ids=ids, attention_mask=mask.long(), logits_to_keep=max(LABELS) + 1).logits.float()
            log_p = torch.log_softmax(logits[:, :-1], -1).gather(2, ids[:, -max(LABELS) :, None])[..., 0]
            for row, (i, k) in enumerate(part):
                out[i, k] = float(log_p[row, -len(labels[k]) :].sum())
    return out


def measure(size: str) -> dict[str, Any]:
    """Return what was measured of one size."""
    from c2s.models import batching

    rng = np.random.default_rng(0)
    model = build(size)
    lengths = rng.integers(PROMPT - 45, PROMPT + 46, CELLS)
    prompts = [rng.integers(1, VOCABULARY, length).tolist() for length in lengths]
    labels = [rng.integers(1, VOCABULARY, length).tolist() for length in LABELS]
    few = prompts[:8]
    apart = float(np.abs(ours(model, few, labels) - scored(model, few, labels, 8)).max())
    found: dict[str, Any] = {"apart": apart, "ours": {}, "generate": {}, "score": {}}
    for tokens in OUR_TOKENS:
        batching.TOKENS["cuda"] = tokens
        found["ours"][tokens] = timed(lambda: ours(model, prompts, labels))
    best = min(found["ours"], key=lambda tokens: statistics.median(found["ours"][tokens]))
    batching.TOKENS["cuda"] = best
    for batch in THEIR_BATCHES:
        found["generate"][batch] = timed(lambda batch=batch: generated(model, prompts, batch))
    for batch in THEIR_BATCHES:
        found["score"][batch] = timed(lambda batch=batch: scored(model, prompts[:SCORED], labels, batch))
    passages = [Passage(prompt, 10, len(prompt) - 10) for prompt in prompts]
    found["embed"] = timed(lambda: gathered(embed_passages(model, passages, pad=0), CELLS))
    found["flops"] = pass_flops(model, float(lengths.mean()), list(LABELS), VOCABULARY)
    found["embed_flops"] = pass_flops(model, float(lengths.mean()), [], 0)
    found["rate"] = matrix_rate(model, best)
    return found


def figures(size: str, found: dict[str, Any]) -> list[Figure]:
    """Return what a size's measurements say."""
    medians = {
        way: {batch: statistics.median(each) for batch, each in found[way].items()}
        for way in ("ours", "generate", "score")
    }
    best = {way: min(each, key=each.__getitem__) for way, each in medians.items()}
    our_speed = CELLS / medians["ours"][best["ours"]]
    theirs = CELLS / medians["generate"][best["generate"]]
    scoring = SCORED / medians["score"][best["score"]]
    ratio = our_speed / theirs
    embed = CELLS / statistics.median(found["embed"])
    apart = found["apart"]
    return [
        Figure(f"{size}: annotate, cells/s", our_speed, *_ends(found["ours"][best["ours"]], CELLS), n=ROUNDS),
        Figure(f"{size}: transformers generate in batches of {best['generate']}, cells/s", theirs, *_ends(found["generate"][best["generate"]], CELLS), n=ROUNDS),
        Figure(f"{size}: transformers, each label scored whole, batches of {best['score']}, cells/s", scoring, *_ends(found["score"][best["score"]], SCORED), n=ROUNDS),
        Figure(
            f"{size}: annotate, times transformers at its best batch", ratio, n=ROUNDS, bar=">= 2", met=ratio >= 2,
            reason=None if ratio >= 2 else "both run the same prompt through the same layers, which is most of the work",
        ),
        Figure(f"{size}: annotate, times scoring each label whole", our_speed / scoring, n=ROUNDS),
        Figure(f"{size}: annotate, model operations per second, TFLOP/s", our_speed * found["flops"] / 1e12, n=ROUNDS),
        Figure(f"{size}: annotate, share of the rate of its matrix products", our_speed * found["flops"] / found["rate"], n=ROUNDS),
        Figure(f"{size}: annotate, model-FLOPs utilisation (share of {PEAK / 1e12:,.0f} TFLOP/s)", our_speed * found["flops"] / PEAK, n=ROUNDS),
        Figure(f"{size}: embed, cells/s", embed, *_ends(found["embed"], CELLS), n=ROUNDS),
        Figure(f"{size}: embed, model-FLOPs utilisation", embed * found["embed_flops"] / PEAK, n=ROUNDS),
        Figure(f"{size}: matrix products at its shapes, TFLOP/s", found["rate"] / 1e12),
        Figure(f"{size}: largest difference of a label's log-likelihood to a whole pass in the same precision, nats", apart),
    ]  # fmt: skip


def _ends(seconds: list[float], n: int) -> tuple[float, float]:
    return n / max(seconds), n / min(seconds)


def main() -> None:
    """Measure and write the card."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    begun = time.perf_counter()
    rows: list[Figure] = []
    for size in SIZES:  # the card is written after each, so that a run that is cut off leaves what it has
        rows += figures(size, measure(size))
        _write(rows, time.perf_counter() - begun)


def _write(rows: list[Figure], seconds: float) -> None:
    write_card(
        Path(__file__).parent, rows,
        data={"prompts": f"{CELLS:,} of {PROMPT - 45} to {PROMPT + 45} random tokens, {len(LABELS)} labels of {min(LABELS)} to {max(LABELS)} tokens", "weights": "random, bfloat16"},
        notes=[
            f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; medians of {ROUNDS} rounds after one that is not counted; low and high are the slowest and fastest round. Batch sizes tried: {', '.join(map(str, THEIR_BATCHES))} cells for transformers, {', '.join(f'{t:,}' for t in OUR_TOKENS)} tokens for c2s; the best of each counts.",
            "From token ids to log-likelihoods: prompts are not tokenized in the time. transformers generates greedily as many tokens as the longest label has, which names one label and no probability; scoring each label whole gives what c2s gives.",
            f"Operations: linear layers, causal attention and output layer of prompt and labels (benchmarks/serving/floor.py); the peak is the dense bfloat16 rate that the maker gives, {PEAK / 1e12:,.0f} TFLOP/s.",
        ],
        seconds=seconds,
    )  # fmt: skip


if __name__ == "__main__":
    main()
