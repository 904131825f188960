"""What stands beside a run: the bar and the health line at every log step, held-out evaluations, and the stop of a run that died."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, TrainerCallback

from c2s.engines.rl.evaluation import Evaluation, evaluate
from c2s.engines.rl.health import Health, cause_of_death, from_logs, sentence

if TYPE_CHECKING:
    from c2s.engines.rl.trainer import PolicyTrainer

logger = logging.getLogger(__name__)

HEALTH, CURVE = "health.jsonl", "evaluation.jsonl"


class Watch(TrainerCallback):
    """Reads the trainer's logs, says in words what they mean, and ends a run that cannot go on.

    Attributes
    ----------
    history : list of Health
        Of log steps, those before a resumption included.
    evaluations : list of dict
        ``step``, ``mean``, ``answers`` (written so far in training), ``seconds`` (of training), and ``pass@1`` to ``pass@k`` where
        held-out answers are right or wrong.
    cause : str or None
        Why the run was ended before its last step.
    """

    def __init__(self, trainer: PolicyTrainer, out: Path, *, progress: bool = True) -> None:
        self.trainer, self.out, self.progress = trainer, out, progress
        self.history: list[Health] = []
        self.evaluations: list[dict[str, Any]] = []
        self.cause: str | None = None
        self.seconds = 0.0  # of training, evaluations left out
        self._clock: float | None = None
        self._bar: Any = None

    def restore(self, step: int) -> None:
        """Take up what was written up to a step; what came after it is taken off the files, and will be written again."""
        for name in (HEALTH, CURVE):
            rows = [row for row in read_lines(self.out / name) if row["step"] <= step]
            (self.out / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            if name == CURVE:
                self.evaluations = rows
                self.seconds = rows[-1]["seconds"] if rows else 0.0
            else:
                self.history = [_health(row) for row in rows]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar; evaluate the policy training begins with."""
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="reinforcing", unit="step", disable=not self.progress
        )
        if state.global_step == 0:
            self._evaluate(0)
        self._clock = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar; evaluate every so many steps."""
        self._bar.update(state.global_step - self._bar.n)
        every = self.trainer.settings.eval_every
        if every and state.global_step % every == 0:
            self._evaluate(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Say how the run is; stop one that has died."""
        if not logs or "loss" not in logs:
            return  # the trainer's summary at the end
        now = from_logs(state.global_step, logs, chance=self.trainer.problem.chance)
        said = sentence(now, self.history)
        self.history.append(now)
        _append(self.out / HEALTH, {**now.record(), "said": said})
        if self._bar is not None:
            self._bar.set_postfix_str(said.partition(" | ")[2], refresh=False)
        logger.info("%s", said)
        self.cause = cause_of_death(self.history)
        if self.cause:
            logger.error("the run is ended: %s", self.cause)
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the last policy."""
        self.finish(state.global_step)
        self._bar.close()

    def finish(self, step: int) -> None:
        """Evaluate the policy of the last step, if that was not done and its weights are numbers."""
        known = self.evaluations and self.evaluations[-1]["step"] == step
        if not known and is_finite(self.trainer.accelerator.unwrap_model(self.trainer.model)):
            self._evaluate(step)

    def _evaluate(self, step: int) -> None:
        if self._clock is not None:
            self.seconds += time.perf_counter() - self._clock
        found = evaluate_policy(self.trainer)
        settings = self.trainer.settings
        row = {
            "step": step, "mean": found.mean, "answers": step * settings.prompts * settings.answers, "seconds": self.seconds,
            **pass_rates(found),
        }  # fmt: skip
        self.evaluations.append(row)
        _append(self.out / CURVE, row)
        if said := fallen(self.evaluations):
            logger.warning("%s", said)
        if self._clock is not None:
            self._clock = time.perf_counter()


def fallen(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Return, in words, that the held-out mean has lost half of what it was at its best or begun with; else nothing."""
    best = max(evaluations, key=lambda row: row["mean"])
    now = evaluations[-1]
    if not best["mean"] > 0 or now["mean"] > best["mean"] / 2:
        return ""
    return f"the held-out mean fell from {best['mean']:.3f} at step {best['step']} to {now['mean']:.3f} at step {now['step']}: a smaller learning_rate, or fewer steps"


def is_finite(model: PreTrainedModel) -> bool:
    """Return whether all weights are numbers."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def evaluate_policy(trainer: PolicyTrainer) -> Evaluation:
    """Return how the trainer's policy does on the held-out prompts, at the temperature and under the constraint of training."""
    problem, settings = trainer.problem, trainer.settings
    model = trainer.accelerator.unwrap_model(trainer.model)
    was_training = model.training
    model.eval()
    try:
        return evaluate(
            problem.held_out, problem.judge,
            write=lambda ids, rows, name: trainer.writer(model, ids, rows, f"{settings.seed}, {name}")[0],
            tokenize=trainer.tokenize, decode=trainer.writer.decode, answers=settings.eval_answers,
            batch_size=max(256, settings.batch_size),
        )  # fmt: skip
    finally:
        model.train(was_training)


def pass_rates(found: Evaluation) -> dict[str, float]:
    """Return pass@1, @2, @4, … up to the answers there are; nothing where scores are no verdicts."""
    answers, rates = found.scores.shape[1], {}
    if set(map(float, found.scores.ravel())) <= {0.0, 1.0}:
        k = 1
        while k <= answers:
            rates[f"pass@{k}"] = found.pass_at(k)
            k *= 2
    return rates


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON Lines file, none where it is missing; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")


def _health(row: dict[str, Any]) -> Health:
    numbers = {
        name: float("nan") if value is None else value for name, value in row.items() if name not in ("said", "step")
    }
    return Health(step=int(row["step"]), **numbers)
