"""Searches of many samples side by side: rewards asked in batches, results kept line by line, gone on with after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from numpy.random import SeedSequence
from tqdm.auto import tqdm

from c2s.artefacts import hash_of, read_record, whole_record, write_json
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.engines.layer_routing.rewards import PairReward
from c2s.engines.layer_routing.searching import Method, Run, SearchResult
from c2s.errors import ArtefactError, ConfigError, DataError

KIND, VERSION = "c2s plan search", 1
_SETTINGS = "search.json"
_LINES = "samples.jsonl"


def search_samples(
    rewards: PairReward,
    n_samples: int,
    n_layers: int,
    *,
    budget: int,
    method: Method = "uct",
    length_penalty: float = 0.0,
    seed: int = 0,
    batch_size: int = 16,
    out: str | os.PathLike[str] | None = None,
    data: str = "",
    progress: bool = True,
) -> list[SearchResult]:
    """Return the search of each sample; a sample's result depends on neither the others nor ``batch_size`` where its rewards do not.

    Parameters
    ----------
    rewards : callable
        Told samples and one plan for each, such as a batch under ``routed(model, plans)``; returns a reward each. A sample has a plan
        of its own in every call, and is in it once.
    n_samples, n_layers : int
    budget, method, length_penalty, seed
        Of each sample (:func:`~c2s.engines.layer_routing.searching.search`).
    batch_size : int
        Samples searched side by side.
    out : path or None
        Folder of ``samples.jsonl``, a line a sample that is done. Called again after a kill, with the same settings, samples that are
        there are not searched again. None: nothing is kept.
    data : str
        What the samples are (a hash, say): a folder of other data is refused.
    progress : bool

    Raises
    ------
    ArtefactError
        The folder holds the search of other settings or data, or is damaged.
    ConfigError
        Settings out of range.
    DataError
        ``rewards`` returned another number of rewards than it was asked for, or one that is not finite.
    """
    if n_samples < 1 or batch_size < 1:
        msg = f"n_samples={n_samples} and batch_size={batch_size} must be at least 1"
        raise ConfigError(msg)
    settings = {
        "n_samples": n_samples, "n_layers": n_layers, "budget": budget, "method": method, "length_penalty": length_penalty,
        "seed": seed, "data": data,
    }  # fmt: skip
    found = {} if out is None else _begun(Path(out), settings)
    waiting = [sample for sample in reversed(range(n_samples)) if sample not in found]
    at_work: dict[int, Run] = {}
    with tqdm(total=n_samples, initial=len(found), desc="searching plans", unit="sample", disable=not progress) as bar:
        while waiting or at_work:
            while waiting and len(at_work) < batch_size:
                sample = waiting.pop()
                at_work[sample] = Run(
                    n_layers, budget=budget, method=method, length_penalty=length_penalty, seed=SeedSequence([seed, sample])
                )  # fmt: skip
            asked: dict[int, LayerPlan] = {}
            for sample, run in list(at_work.items()):
                plan = run.ask()
                if plan is not None:
                    asked[sample] = plan
                    continue
                found[sample] = run.result()
                if out is not None:
                    _append(Path(out) / _LINES, sample, found[sample])
                del at_work[sample]
                bar.update()
            if not asked:
                continue
            told = rewards(list(asked), list(asked.values()))
            if len(told) != len(asked):
                msg = f"there are {len(told)} rewards of {len(asked)} samples; return one each"
                raise DataError(msg)
            for (sample, plan), reward in zip(asked.items(), told):
                at_work[sample].tell(plan, float(reward))
    return [found[sample] for sample in range(n_samples)]


def read_samples(folder: str | os.PathLike[str]) -> dict[int, SearchResult]:
    """Return the searches that are done, by sample; a last line cut short by a kill is left out.

    Raises
    ------
    ArtefactError
        There is no search, or a line is damaged.
    """
    place = Path(folder)
    read_record(place / _SETTINGS, kind=KIND, version=VERSION)
    path = place / _LINES
    found: dict[int, SearchResult] = {}
    if not path.exists():
        return found
    lines = path.read_text(encoding="utf-8").split("\n")
    with whole_record(path):
        for line in lines[:-1]:
            record = json.loads(line)
            found[int(record["sample"])] = SearchResult.restore(record)
    return found


def _begun(folder: Path, settings: Mapping[str, object]) -> dict[int, SearchResult]:
    """Return what a folder holds already, and make it ready for more lines."""
    record = {"format": KIND, "version": VERSION, "settings": settings, "key": hash_of(settings)}
    if not (folder / _SETTINGS).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            msg = f"{folder} holds other files and no search; name another folder"
            raise ArtefactError(msg)
        write_json(folder / _SETTINGS, record)
        return {}
    before = read_record(folder / _SETTINGS, kind=KIND, version=VERSION)
    if before.get("key") != record["key"]:
        was = before.get("settings", {})
        changed = ", ".join(
            f"{name} ({was.get(name)!r}, now {value!r})" for name, value in settings.items() if was.get(name) != value
        )
        msg = f"{folder} holds a search with other settings: {changed}; go on with the same, or name another folder"
        raise ArtefactError(msg)
    found = read_samples(folder)
    path = folder / _LINES
    if path.exists():
        whole = path.read_bytes()
        if cut := len(whole) - whole.rfind(b"\n") - 1:
            os.truncate(path, len(whole) - cut)  # or the next line would be glued to half of this one
    return found


def _append(path: Path, sample: int, result: SearchResult) -> None:
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"sample": sample, **result.record()}) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
