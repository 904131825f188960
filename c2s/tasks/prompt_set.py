"""The prompts of a task: versioned wordings read from the package, or from a user's installed package."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Self

import numpy as np

from c2s.errors import ArtefactError, ConfigError
from c2s.tasks.base import Genes, Mark, Part
from c2s.tasks.installed import installed_wordings
from c2s.tasks.wording import SentenceStyle, Slot, fill, slot_names


@dataclass(frozen=True)
class PromptSet:
    """Wordings of one task.

    Parameters
    ----------
    task : str
        Name of the task.
    version : str
        Changes whenever a wording does.
    prompts, answers : tuple of str, equal length, at least one
        Templates: ``{slot}``, and ``[ of {slot}]`` for a clause that is left out without its slot.
    style : SentenceStyle
        How genes are written by :func:`~c2s.tasks.wording.render_text`.
    heading : str
        What stands before each cell of a sample; ``{i}`` counts from 1.
    closing : str
        What stands after the last cell.
    source : str
        ``"c2s"``, or the package the wordings were read from.

    Raises
    ------
    ConfigError
        No wording, unequal numbers, or a template that cannot be read.
    """

    task: str
    version: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    style: SentenceStyle = field(default_factory=SentenceStyle)
    heading: str = "Cell {i}: "
    closing: str = ""
    source: str = "c2s"

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.answers):
            msg = f"{self.task}: {len(self.prompts)} prompts and {len(self.answers)} answers; expected one answer for each of at least one prompt"
            raise ConfigError(msg)
        for template in (*self.prompts, *self.answers):
            slot_names(template)

    @classmethod
    def of(cls, task: str) -> PromptSet:
        """Return the wordings that ship with c2s, ``wordings/<task>.json``.

        Raises
        ------
        ConfigError
            There are none for ``task``; the message lists the tasks that have some.
        """
        return _packaged(task)

    @classmethod
    def from_installed(cls, package: str, task: str) -> PromptSet:
        """Return the wordings of a package that the user installed, in the exact format of its checkpoints.

        Genes are written in upper case, a space between them and a full stop after; ``{top_k}`` is the number asked
        for, even where a cell has fewer genes, since that is what those checkpoints were trained on.

        Parameters
        ----------
        package : str
            ``"cell2sentence"``.
        task : str
            ``cell_type_annotation``, ``cell_generation``, ``tissue_inference``, ``sample_generation`` or
            ``sample_abstract``.

        Raises
        ------
        MissingDependencyError
            The package is not installed; the message says how to install it.
        ConfigError
            Another package, or a task it has no wordings for.
        ArtefactError
            Its files are not those of the version that is known.
        """
        return _installed(package, task)

    @classmethod
    def from_record(cls, record: Mapping[str, object], source: str) -> Self:
        """Return the set that a JSON file describes; ``source`` names the file in errors."""
        try:
            wordings = record["wordings"]
            if not isinstance(wordings, list):
                raise TypeError
            prompts, answers = zip(*((each["prompt"], each["answer"]) for each in wordings), strict=True)
            return cls(str(record["task"]), str(record["version"]), prompts, answers)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            msg = f'{source}: expected {{"task", "version", "wordings": [{{"prompt", "answer"}}, ...]}}; {error or "found something else"}'
            raise ArtefactError(msg) from error

    def __len__(self) -> int:
        return len(self.prompts)

    def prompt(self, slots: Mapping[str, Slot | None], *, wording: int = 0) -> tuple[Part, ...]:
        """Return the prompt with ``slots`` filled in; a needed slot without a value is a DataError."""
        return fill(self.prompts[self._checked(wording)], slots)

    def answer(self, slots: Mapping[str, Slot | None], *, wording: int = 0) -> tuple[Part, ...]:
        """Return the answer that belongs to the prompt of this wording; it ends with ``Mark("end")``."""
        return (*fill(self.answers[self._checked(wording)], slots), Mark("end"))

    def cells(self, rows: Sequence[np.ndarray]) -> tuple[Part, ...]:
        """Return several cells (gene ids, int32) as one slot: a heading, genes and a line break for each."""
        parts: list[Part] = []
        for i, row in enumerate(rows, start=1):
            parts += ["\n" * (i > 1) + self.heading.format(i=i), Genes(row)]
        return (*parts, self.closing) if parts else ()

    def choose(self, seed: int, n: int) -> np.ndarray:
        """Return the wording of each of ``n`` examples, int64, shape (n,), uniform and decided by ``seed`` and task."""
        return np.random.default_rng([seed, zlib.crc32(self.task.encode())]).integers(len(self), size=n)

    def _checked(self, wording: int) -> int:
        if not 0 <= wording < len(self):
            msg = f"wording {wording} of {self.task}; there are {len(self)}, 0 to {len(self) - 1}"
            raise ConfigError(msg)
        return wording


@cache
def _packaged(task: str) -> PromptSet:
    folder = resources.files("c2s.tasks") / "wordings"
    known = sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    if task not in known:
        msg = f"no wordings for {task!r}; there are some for {', '.join(known)}"
        raise ConfigError(msg)
    return PromptSet.from_record(json.loads((folder / f"{task}.json").read_text(encoding="utf-8")), f"{task}.json")


@cache
def _installed(package: str, task: str) -> PromptSet:
    version, prompts, answer = installed_wordings(package, task)
    style = SentenceStyle(upper=True)
    return PromptSet(
        task, version, prompts, (answer,) * len(prompts), style, heading="Cell {i}:\n", closing="\n", source=package
    )


def prompt_set(source: str, task: str) -> PromptSet:
    """Return the wordings of ``task`` from c2s (``source="c2s"``) or from an installed package of that name."""
    return _packaged(task) if source == "c2s" else _installed(source, task)
