"""What the engine adds to a plain TRL step: CPU seconds of both, in turn, the same model, prompts, rewards and batch, no constraint.

Run: ``python -m benchmarks.rl.overhead``; it writes ``made/overhead.json``, which ``python -m benchmarks.rl.run`` reads.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer

from benchmarks.card import commit
from benchmarks.rl.toy import problem
from c2s.artefacts import write_json
from c2s.engines.rl.recipes import recipe
from c2s.engines.rl.settings import RunSettings, trl_config
from c2s.engines.rl.trainer import PolicyTrainer

STEPS, ROUNDS = 20, 5
SETTINGS = RunSettings(steps=STEPS, prompts=8, answers=8, max_tokens=16, batch_size=64, learning_rate=1e-4)


def plain(out: str) -> Any:
    """Return TRL's own trainer, told what the engine tells it."""
    made = problem("ordering")
    return GRPOTrainer(
        model=made.model(0), reward_funcs=[made.verifier], args=trl_config(recipe("grpo", kl=0.0), SETTINGS, out),
        train_dataset=made.prompts, processing_class=made.tokenizer,
    )  # fmt: skip


def ours(out: str) -> Any:
    """Return the engine's trainer."""
    made = dataclasses.replace(problem("ordering"), rewards=())
    return PolicyTrainer(made.model(0), made, recipe=recipe("grpo", kl=0.0), settings=SETTINGS, out=out)


def seconds(build: Any) -> float:
    """Return CPU seconds of a run's steps, set-up left out."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(folder)
        begun = time.process_time()
        trainer.train()
        return (time.process_time() - begun) / STEPS


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    for build in (plain, ours):
        seconds(build)  # imports and first calls
    rounds = [(seconds(plain), seconds(ours)) for _ in range(ROUNDS)]
    ratios = [ours_ / plain_ for plain_, ours_ in rounds]
    write_json(
        Path(__file__).parent / "made" / "overhead.json",
        {"plain": [a for a, _ in rounds], "ours": [b for _, b in rounds], "ratio": statistics.median(ratios), "low": min(ratios),
         "high": max(ratios), "steps": STEPS, "commit": commit()},
    )  # fmt: skip
    print(
        f"CPU seconds a step: TRL {statistics.median(a for a, _ in rounds):.3f}, ours {statistics.median(b for _, b in rounds):.3f}; ratio {statistics.median(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
