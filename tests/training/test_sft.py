"""The loss of the answer against an unrolled reference, and training that goes on as if nothing had happened."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, TrainingArguments

from c2s.training.config import TrainConfig
from c2s.training.examples import Collator, RenderedExamples
from c2s.training.sft import AnswerTrainer, answer_loss, fit
from c2s.training.sft import _last_checkpoint as last_checkpoint

PAD, N_TOKENS = 0, 40


def tiny_llama(seed: int = 0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=N_TOKENS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=64, tie_word_embeddings=True, pad_token_id=PAD, eos_token_id=1,
        bos_token_id=None, initializer_range=0.3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def tiny_gemma():
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=N_TOKENS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=32, max_position_embeddings=64, pad_token_id=PAD, final_logit_softcapping=1.5, initializer_range=0.5,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def rendered(n: int = 10, *, seed: int = 0, shortest: int = 6, longest: int = 12) -> RenderedExamples:
    """Return random examples; the last four tokens are the answer."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, size=n)
    offsets = np.r_[0, np.cumsum(lengths)]
    weights = np.zeros(offsets[-1], dtype=np.float32)
    for end in offsets[1:]:
        weights[end - 4 : end] = rng.choice([1.0, 4.0], size=4)
    ids = rng.integers(2, N_TOKENS, size=offsets[-1]).astype(np.int32)
    return RenderedExamples(ids, offsets, lengths - 4, weights)


def batch_of(examples: RenderedExamples, rows=None):
    return Collator(PAD)([examples[i] for i in (range(len(examples)) if rows is None else rows)])


def unrolled(model, batch) -> torch.Tensor:
    """Return the loss from full-vocabulary logits at every place, one token at a time."""
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    total, weight = 0.0, 0.0
    for row in range(len(logits)):
        for place in range(1, logits.shape[1]):
            w = float(batch["weights"][row, place])
            p = torch.softmax(logits[row, place - 1], dim=-1)[batch["input_ids"][row, place]]
            total, weight = total - w * float(torch.log(p)), weight + w
    return torch.tensor(total / weight)


@pytest.mark.parametrize("build", [tiny_llama, tiny_gemma])
def test_loss_equals_an_unrolled_reference(build):
    model, batch = build().eval(), batch_of(rendered())
    torch.testing.assert_close(
        answer_loss(model, batch).double(), unrolled(model, batch).double(), rtol=1e-5, atol=1e-6
    )


def test_the_output_layer_runs_at_answer_places_only():
    model, batch = tiny_llama().eval(), batch_of(rendered(n=7))
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: rows.append(output.shape))
    answer_loss(model, batch)
    assert rows == [(7 * 4, N_TOKENS)]


def test_no_prompt_token_is_in_the_loss():
    """Without attention to them, prompt tokens do not matter; each answer token does."""
    model, examples = tiny_llama().eval(), rendered(n=1)
    batch = batch_of(examples)
    start = int(examples.answer_starts[0])
    whole = answer_loss(model, batch)
    parts = []
    for place in range(batch["input_ids"].shape[1]):
        only = torch.zeros_like(batch["weights"])
        only[0, place] = batch["weights"][0, place]
        if only.sum() == 0:
            assert place < start
            continue
        parts.append(answer_loss(model, {**batch, "weights": only}) * only.sum())
    assert len(parts) == 4
    torch.testing.assert_close(sum(parts) / batch["weights"].sum(), whole)


def test_gradient_reaches_no_logit_of_the_prompt():
    model, examples = tiny_llama().eval(), rendered(n=2)
    batch = batch_of(examples)
    hidden = []
    model.get_decoder().register_forward_hook(
        lambda module, inputs, output: (
            hidden.append(output.last_hidden_state.requires_grad_()) or output.last_hidden_state.retain_grad()
        )
    )
    answer_loss(model, batch).backward()
    touched = hidden[0].grad.abs().sum(-1) > 0
    expected = torch.zeros_like(touched)
    for row in range(2):
        start = int(examples.answer_starts[row])
        expected[row, start - 1 : start + 3] = True  # the place before each answer token predicts it
    assert torch.equal(touched, expected)


@pytest.mark.parametrize("pad", [PAD, 17])
def test_padding_does_not_change_the_loss(pad):
    model, examples = tiny_llama().eval(), rendered(n=6)
    alone = [(answer_loss(model, batch_of(examples, [i])), batch_of(examples, [i])["weights"].sum()) for i in range(6)]
    together = answer_loss(model, Collator(pad)([examples[i] for i in range(6)]))
    torch.testing.assert_close(together, sum(a * w for a, w in alone) / sum(w for _, w in alone))


class Stopped(Exception):
    pass


def settings(**changes) -> TrainConfig:
    return TrainConfig(
        **{"steps": 11, "batch_size": 4, "checkpoint_steps": 3, "learning_rate": 0.01, "threads": 1, **changes}
    )


def record_batches(monkeypatch, *, stop_at: int | None = None) -> list[list[list[int]]]:
    """Return the list that the batches of training steps are written to; raise at step ``stop_at``."""
    seen: list[list[list[int]]] = []
    step = AnswerTrainer.training_step

    def spy(self, model, inputs, *args, **kwargs):
        if stop_at is not None and self.state.global_step == stop_at:
            raise Stopped
        seen.append(inputs["input_ids"].tolist())
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", spy)
    return seen


@pytest.mark.parametrize("longest", [8, 40], ids=["lengths alike", "lengths differ"])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(longest, tmp_path, monkeypatch):
    """10 examples in batches of 4: three steps an epoch, so the break (step 8, checkpoint at 6) lies in the third."""
    examples, validation = rendered(longest=longest), rendered(n=3, seed=1)
    assert (examples.lengths.max() > 1.5 * examples.lengths.mean()) == (longest == 40)
    whole = tiny_llama()
    with monkeypatch.context() as patch:
        straight = record_batches(patch)
        fit(whole, examples, validation, settings(), tmp_path / "a", collator=Collator(PAD), progress=False)
    assert len(straight) == 11
    with monkeypatch.context() as patch:
        before = record_batches(patch, stop_at=8)
        with pytest.raises(Stopped):
            fit(tiny_llama(), examples, validation, settings(), tmp_path / "b", collator=Collator(PAD), progress=False)
    assert before == straight[:8]
    assert [path.name for path in (tmp_path / "b").glob("checkpoint-*")] == ["checkpoint-6"]
    again = tiny_llama(seed=5)  # nothing of the new process's own start may show
    torch.manual_seed(99)
    with monkeypatch.context() as patch:
        after = record_batches(patch)
        history = fit(
            again, examples, validation, settings(), tmp_path / "b", collator=Collator(PAD), resume=True, progress=False
        )
    assert after == straight[6:]
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert [row["step"] for row in history if "loss" in row] == list(range(1, 12))


def test_epochs_differ_in_order_and_each_shows_every_example(tmp_path, monkeypatch):
    for longest in (8, 40):
        examples = rendered(n=12, longest=longest)
        with monkeypatch.context() as patch:
            seen = record_batches(patch)
            fit(
                tiny_llama(),
                examples,
                None,
                settings(steps=6),
                tmp_path / str(longest),
                collator=Collator(PAD),
                progress=False,
            )
        epochs = [[tuple(t for t in row if t != PAD) for batch in seen[at : at + 3] for row in batch] for at in (0, 3)]
        every = sorted(tuple(examples[i]["ids"].tolist()) for i in range(12))
        assert sorted(epochs[0]) == sorted(epochs[1]) == every
        assert epochs[0] != epochs[1]


def test_similar_lengths_share_a_batch_where_padding_would_cost_much(tmp_path, monkeypatch):
    examples = rendered(n=600, longest=60, shortest=5)
    seen = record_batches(monkeypatch)
    fit(
        tiny_llama(),
        examples,
        None,
        settings(steps=60, batch_size=10),
        tmp_path,
        collator=Collator(PAD),
        progress=False,
    )
    total = sum(len(batch) * len(batch[0]) for batch in seen)
    rng = np.random.default_rng(0)
    at_random = sum(10 * block.max() for block in rng.permutation(examples.lengths).reshape(60, 10))
    assert examples.lengths.sum() / at_random < 0.65  # more than a third is padding at random
    assert examples.lengths.sum() / total > 0.85


def test_a_checkpoint_cut_short_is_passed_over(tmp_path, monkeypatch):
    examples = rendered()
    whole = tiny_llama()
    fit(whole, examples, None, settings(), tmp_path / "a", collator=Collator(PAD), progress=False)
    with monkeypatch.context() as patch:
        record_batches(patch, stop_at=5)
        with pytest.raises(Stopped):
            fit(tiny_llama(), examples, None, settings(), tmp_path / "b", collator=Collator(PAD), progress=False)
    (tmp_path / "b" / "checkpoint-4").mkdir()  # killed while writing: weights, but no state
    (tmp_path / "b" / "checkpoint-5").mkdir()
    (tmp_path / "b" / "checkpoint-5" / "trainer_state.json").write_text('{"global_st')
    again = tiny_llama(seed=5)
    fit(again, examples, None, settings(), tmp_path / "b", collator=Collator(PAD), resume=True, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_the_newest_of_several_checkpoints_counts(tmp_path):
    """A run killed between writing a checkpoint and deleting the one before leaves two; 9 comes before 10."""
    for step in (10, 9, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert last_checkpoint(tmp_path / "none") is None


def test_resuming_before_the_first_checkpoint_starts_anew_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="c2s"):
        fit(
            tiny_llama(),
            rendered(),
            None,
            settings(steps=1),
            tmp_path,
            collator=Collator(PAD),
            resume=True,
            progress=False,
        )
    assert "no checkpoint in" in caplog.text
    assert "from the beginning" in caplog.text


@pytest.mark.parametrize("bf16", [True, False])
def test_mixed_precision_reaches_the_loss(bf16, tmp_path):
    """The loss goes around ``model.forward``, which is what accelerate casts."""
    model, dtypes = tiny_llama(), set()
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    arguments = TrainingArguments(output_dir=str(tmp_path), bf16=bf16, use_cpu=True, max_steps=1, report_to=[])
    trainer = AnswerTrainer(model=model, args=arguments, train_dataset=rendered(), data_collator=Collator(PAD))
    loss = trainer.compute_loss(model, batch_of(rendered()))
    assert dtypes == {torch.bfloat16 if bf16 else torch.float32}
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(answer_loss(model, batch_of(rendered())).item(), rel=0.02)


def test_history_holds_loss_and_held_out_loss(tmp_path):
    examples, validation = rendered(), rendered(n=5, seed=3)
    model = tiny_llama()
    history = fit(model, examples, validation, settings(steps=10), tmp_path, collator=Collator(PAD), progress=False)
    losses = [row for row in history if "loss" in row]
    held_out = [row for row in history if "eval_loss" in row]
    assert [row["step"] for row in losses] == list(range(1, 11)) == [row["step"] for row in held_out]
    assert losses[-1]["learning_rate"] < losses[4]["learning_rate"]
    expected = answer_loss(model.eval(), batch_of(validation)).item()
    assert held_out[-1]["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert losses[-1]["loss"] < losses[0]["loss"]


def test_held_out_loss_is_per_token_over_several_batches(tmp_path):
    """33 examples, one of them alone in the second batch: it must not weigh as much as the other 32."""
    validation = rendered(n=33, seed=3)
    model = tiny_llama()
    history = fit(model, rendered(), validation, settings(steps=1), tmp_path, collator=Collator(PAD), progress=False)
    expected = answer_loss(model.eval(), batch_of(validation)).item()
    got = next(row["eval_loss"] for row in history if "eval_loss" in row)
    assert got == pytest.approx(expected, rel=1e-5)


def test_progress_shows_loss_held_out_loss_and_tokens_per_second(tmp_path, capsys):
    fit(tiny_llama(), rendered(), rendered(n=3), settings(steps=2), tmp_path, collator=Collator(PAD), progress=True)
    shown = capsys.readouterr().err
    for word in ("training", "2/2", "loss=", "held-out=", "tok/s="):
        assert word in shown
    fit(
        tiny_llama(),
        rendered(),
        rendered(n=3),
        settings(steps=2),
        tmp_path / "b",
        collator=Collator(PAD),
        progress=False,
    )
    silent = capsys.readouterr()
    assert "tok/s" not in silent.err
    assert silent.out == ""
