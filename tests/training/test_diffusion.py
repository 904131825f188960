"""The loss of hidden places against an unrolled reference and its closed forms; canvases; the whole path from cells to cells."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config

from c2s.engines.elastic_cache.bidirectional import make_bidirectional
from c2s.errors import ConfigError
from c2s.training.diffusion import LEAST_SHARE, CanvasCollator, hiding_times, masked_diffusion_loss, require_canvas
from tests.training.test_sft import N_TOKENS, PAD, rendered

MASK = N_TOKENS
SMALL = {
    "vocab_size": N_TOKENS + 1, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64, "pad_token_id": PAD, "initializer_range": 0.3,
}  # fmt: skip
FAMILIES = {
    "llama": lambda: LlamaConfig(**SMALL, num_key_value_heads=1),
    "qwen3": lambda: Qwen3Config(**SMALL, num_key_value_heads=1, head_dim=8),
    "gpt_neox": lambda: GPTNeoXConfig(**SMALL),
    "gemma2": lambda: Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=8, final_logit_softcapping=1.5),
}


def tiny(family: str = "llama"):
    torch.manual_seed(0)
    return make_bidirectional(AutoModelForCausalLM.from_config(FAMILIES[family]()).eval())


def batch_of(n: int = 6, *, n_places: int = 7, seed: int = 0):
    examples = rendered(n, seed=seed)
    return CanvasCollator(PAD, n_places)([examples[i] for i in range(n)])


def test_a_canvas_holds_the_answer_then_padding_that_is_foretold():
    examples = rendered(3)
    batch = batch_of(3)
    for row in range(3):
        example = examples[row]
        n = len(example["ids"])
        start = n - 4
        assert batch["input_ids"][row, :n].tolist() == example["ids"].tolist()
        assert (batch["input_ids"][row, n:] == PAD).all()
        assert batch["weights"][row].tolist() == [0.0] * start + example["weights"][-4:].tolist() + [1.0] * 3 + [
            0.0
        ] * (batch["weights"].shape[1] - start - 7)
        assert batch["attention_mask"][row].sum() == start + 7


def test_a_canvas_longer_than_the_model_reads_is_refused():
    examples = rendered(2)
    require_canvas(examples, 64 - examples.longest_prompt, 64)
    with pytest.raises(ConfigError, match=r"an answer of 61 places; the model reads 64. Lower n_genes or n_answer"):
        require_canvas(examples, 61, 64)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_times_are_stratified(n):
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([hiding_times(n, generator) for _ in range(400)])
    assert torch.equal(torch.sort((drawn * n).floor(), dim=1).values, torch.arange(n).float().expand(400, n))
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)
    if n > 1:
        assert len({tuple(row.tolist()) for row in drawn.argsort(1)}) > 1  # not always the first example first


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_equals_an_unrolled_reference(family):
    """Place by place, from full-vocabulary logits, with the same draws."""
    model, batch = tiny(family), batch_of()
    loss = masked_diffusion_loss(model, batch, mask_id=MASK, generator=torch.Generator().manual_seed(1))
    again = torch.Generator().manual_seed(1)
    share = (1 - LEAST_SHARE) * hiding_times(6, again) + LEAST_SHARE
    drawn = torch.rand(batch["input_ids"].shape, generator=again) < share[:, None]
    total = 0.0
    for row in range(6):
        seen = batch["attention_mask"][row].bool()
        ids, weights, hidden = (each[row][seen] for each in (batch["input_ids"], batch["weights"], drawn))
        hidden = hidden & (weights > 0)
        noisy = torch.where(hidden, MASK, ids)
        with torch.no_grad():
            logits = model(input_ids=noisy[None]).logits[0].double()
        each = -torch.log_softmax(logits, -1).gather(1, ids[:, None])[:, 0] * weights
        total += float(each[hidden].sum() / share[row] / weights.sum())
    assert float(loss.detach()) == pytest.approx(total / 6, rel=1e-4)


def test_a_model_that_knows_nothing_loses_the_log_of_the_vocabulary():
    """In expectation over what is hidden, whatever the time."""
    model, batch = tiny(), batch_of(8)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    generator = torch.Generator().manual_seed(0)
    losses = [masked_diffusion_loss(model, batch, mask_id=MASK, generator=generator).item() for _ in range(150)]
    error = np.std(losses) / math.sqrt(len(losses))
    assert np.mean(losses) == pytest.approx(math.log(N_TOKENS + 1), abs=4 * error)
    assert error < 0.15


def test_gradients_come_from_hidden_places_and_prompts_are_never_hidden():
    model, batch = tiny(), batch_of()
    shown = []
    model.get_decoder().register_forward_pre_hook(lambda m, a, k: shown.append(k["input_ids"]), with_kwargs=True)
    for seed in range(20):
        masked_diffusion_loss(model, batch, mask_id=MASK, generator=torch.Generator().manual_seed(seed))
    prompt = batch["weights"] == 0
    assert all(torch.equal(ids[prompt], batch["input_ids"][prompt]) for ids in shown)
    assert any((ids == MASK).any() for ids in shown)
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda m, i, o: rows.append(len(o)))
    masked_diffusion_loss(model, batch, mask_id=MASK, generator=torch.Generator().manual_seed(0))
    assert rows == [int((shown[0] == MASK).sum())]


def test_a_batch_in_which_nothing_is_hidden_has_a_loss_of_zero_and_a_gradient():
    model, batch = tiny(), batch_of(1, n_places=4)
    for seed in range(4000):
        generator = torch.Generator().manual_seed(seed)
        share = (1 - LEAST_SHARE) * hiding_times(1, generator) + LEAST_SHARE
        drawn = torch.rand(batch["input_ids"].shape, generator=generator) < share[:, None]
        if not (drawn & (batch["weights"] > 0)).any():
            break
    loss = masked_diffusion_loss(model, batch, mask_id=MASK, generator=torch.Generator().manual_seed(seed))
    loss.backward()
    assert float(loss.detach()) == 0
