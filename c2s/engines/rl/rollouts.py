"""Every answer a run trained on, as Parquet: which prompt, which tokens, with which probabilities, for which reward.

Rewards can be run again on them without a model (:func:`replay`): to see what another reward would have said, or whether the
one that trained still says the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.artefacts import atomic_path, require_access
from c2s.engines.rl.evaluation import scored
from c2s.engines.rl.rewards import Reward
from c2s.engines.rl.sampling import Answers
from c2s.errors import ArtefactError, ConfigError

SCHEMA = pa.schema(
    [
        ("step", pa.int32()), ("version", pa.int32()), ("prompt_number", pa.int32()), ("prompt", pa.string()),
        ("completion", pa.string()), ("completion_ids", pa.list_(pa.int32())), ("log_probs", pa.list_(pa.float32())),
        ("own", pa.list_(pa.int8())), ("interrupted", pa.bool_()), ("rewards", pa.string()), ("advantage", pa.float32()),
        ("columns", pa.string()),
    ]
)  # fmt: skip


def rollout_rows(
    answers: Answers,
    texts: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    *,
    version: int,
    rewards: Mapping[str, Sequence[float]],
    advantages: Sequence[float],
) -> list[dict[str, Any]]:
    """Return a row of :data:`SCHEMA` for each answer, but for its step.

    Parameters
    ----------
    rows : sequence of mapping
        The prompt's row of each answer, and what its episode added.
    numbers : sequence of int
        The prompt's place among the training prompts.
    version : int
        Updates done when the answers were begun.
    rewards : mapping of str to sequence of float
        By name, one an answer.
    advantages : sequence of float
        nan where an answer left the loss.
    """
    told = zip(numbers, rows, texts, *answers[:4], zip(*rewards.values(), strict=True), advantages, strict=True)
    return [
        {
            "version": version, "prompt_number": number, "prompt": row["prompt"], "completion": text, "completion_ids": ids,
            "log_probs": log_probs, "own": own, "interrupted": interrupted, "rewards": dict(zip(rewards, values, strict=True)),
            "advantage": advantage, "columns": {name: value for name, value in row.items() if name != "prompt"},
        }
        for number, row, text, ids, log_probs, own, interrupted, values, advantage in told
    ]  # fmt: skip


def write_rollouts(
    folder: str | os.PathLike[str], step: int, rows: Sequence[Mapping[str, Any]], *, process: int = 0
) -> Path:
    """Write the answers of one step and process to ``<step>-<process>.parquet`` and return its path.

    Parameters
    ----------
    rows : sequence of mapping
        Of :func:`rollout_rows`.
    """
    path = Path(folder) / f"{step:06d}-{process}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [
        {**row, "step": step, "prompt": _text(row["prompt"]), "rewards": json.dumps(row["rewards"]), "columns": json.dumps(row["columns"])}
        for row in rows
    ]  # fmt: skip
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(told, schema=SCHEMA), temporary, compression="zstd")
    return path


def read_rollouts(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the answers of all steps in order, one row each; rewards and columns as dicts.

    Raises
    ------
    ArtefactError
        There are none, or a file cannot be read.
    """
    place = Path(folder)
    files = sorted(place.glob("*.parquet")) or sorted((place / "rollouts").glob("*.parquet"))
    if not files:
        msg = f"{place} holds no rollouts; give the folder of a run, or its rollouts/"
        raise ArtefactError(msg)
    tables = []
    for file in files:
        require_access(file)
        try:
            tables.append(pq.read_table(file, schema=SCHEMA))
        except (pa.ArrowInvalid, OSError) as error:
            msg = f"{file} cannot be read as rollouts: {error}"
            raise ArtefactError(msg) from error
    found = pa.concat_tables(tables).to_pandas()
    for name in ("rewards", "columns"):
        found[name] = found[name].map(json.loads)
    return found


def replay(
    folder: str | os.PathLike[str], rewards: Mapping[str, Reward], *, progress: Callable[[int], object] = lambda _: None
) -> pd.DataFrame:
    """Run rewards again on the answers of a run.

    Parameters
    ----------
    folder : path
        Of the run, or its ``rollouts/``.
    rewards : mapping of str to callable
        TRL's convention. One of the name of a reward of the run is compared with what it said then.
    progress : callable
        Told how many answers each step added.

    Returns
    -------
    DataFrame
        One row an answer: ``step``, ``prompt``, ``completion``, and for each reward its value, and ``<name>, then``, what the run recorded
        under that name, where it did.

    Raises
    ------
    ConfigError
        No reward.
    """
    if not rewards:
        msg = "there is no reward to run again; name at least one"
        raise ConfigError(msg)
    if taken := {"step", "prompt", "completion"} & set(rewards):
        msg = f"a reward is called {min(taken)}, as a column of the table; give it another name"
        raise ConfigError(msg)
    table = read_rollouts(folder)
    found = table[["step", "prompt", "completion"]].copy()
    for name, reward in rewards.items():
        values: list[float] = []
        for _, part in table.groupby("step", sort=True):
            rows = [{"prompt": prompt, **columns} for prompt, columns in zip(part["prompt"], part["columns"])]
            ids = [list(map(int, each)) for each in part["completion_ids"]]
            values += scored(reward, rows, ids, part["completion"].tolist())
            progress(len(rows))
        found[name] = values
        if any(name in then for then in table["rewards"]):
            found[f"{name}, then"] = np.array([then.get(name, np.nan) for then in table["rewards"]], dtype=float)
    return found


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt)
