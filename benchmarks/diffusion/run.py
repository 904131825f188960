"""What does each part of elastic decoding give, against other caches and none, on models that write real cells?

Run: ``python -m benchmarks.diffusion.run`` (``--studies cells --lengths 64,128 --seeds 0`` does part of it). Every run is kept in ``made/`` with the
commit that made it, and is made once; models go to ``--models FOLDER``, where training that was cut short goes on. The card holds what has been made.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.card import commit
from benchmarks.diffusion.cells import judges, model, pool, quality
from benchmarks.diffusion.report import REAL, report
from benchmarks.diffusion.rows import rows
from benchmarks.diffusion.speed import wall, wide
from c2s.artefacts import write_json
from c2s.engines.constraint import Constraint, Segment
from c2s.engines.elastic_cache import DecoderParts, Request
from c2s.engines.noise import noise_keys
from c2s.models.cell_lm import CellLM
from c2s.models.prefix import PrefixDecoder
from c2s.models.sampling import sample_answers
from c2s.sentences.corpus import CellSentences
from c2s.sentences.record import Encoding
from c2s.tasks import CellGeneration

logger = logging.getLogger(__name__)

MADE = Path(__file__).parent / "made"
LENGTHS = (64, 128, 256, 512)
PER_KIND = 24  # cells of each of five types
COMMITS = (0.9, 0.2, 0.1, 0.05)  # confidence above which several genes are written in a step
SAMPLE = 4  # requests that gamma is calibrated on, of another seed


def main() -> None:
    """Make the runs asked for, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", help="names separated by commas; all if left out, none if empty")
    parser.add_argument("--lengths", help="numbers separated by commas")
    parser.add_argument("--seeds", default="0", help="numbers separated by commas")
    parser.add_argument("--models", type=Path, help="folder that keeps trained models")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    torch.set_num_threads(1)
    studies: dict[str, Callable[[int, int, Path], None]] = {
        "real": real,
        "cells": cells,
        "in turn": in_turn,
        "wall": wall_of,
        "wide": wide_of,
    }
    names = list(studies) if asked.studies is None else [name for name in asked.studies.split(",") if name]
    if unknown := sorted(set(names) - set(studies)):
        msg = f"no study {', '.join(unknown)}; there are {', '.join(studies)}"
        raise SystemExit(msg)
    folder = asked.models or Path(tempfile.mkdtemp(prefix="c2s-diffusion-"))
    for seed in map(int, asked.seeds.split(",")):
        for length in LENGTHS if asked.lengths is None else map(int, asked.lengths.split(",")):
            for name in names:
                studies[name](length, seed, folder)
    report(MADE)


def cells(length: int, seed: int, folder: Path) -> None:
    """Write cells of every type in every way, and judge them."""
    if all(_path("cells", length, f"{name}, {level}", seed).exists() for level in COMMITS for name in _names(level)):
        return
    known = model("masked_diffusion", length, seed, folder)
    parts = DecoderParts.of(known.model, mask_id=known.tokens.mask)
    kinds, requests = asked_of(known, length, seed)
    sample = asked_of(known, length, seed + 1000)[1][:: max(1, len(requests) // SAMPLE)][:SAMPLE]
    for level in COMMITS:
        for name, row in rows(parts, sample, commit=level, temperature=1.0).items():
            path = _path("cells", length, f"{name}, {level}", seed)
            if name not in _names(level) or path.exists():
                continue
            decoded, seconds = row.timed(parts, requests)
            accounts = [each.accounting for each in decoded]
            written = sentences_of(known, [each.answers[0] for each in decoded], kinds)
            _keep(path, {
                "row": name, "commit above": level, "length": length, "seed": seed, "gamma": row.settings.gamma,
                **quality(written, length), "seconds": seconds, "token_layers": [int(a.token_layers[0]) for a in accounts],
                "steps": [int(a.steps[0]) for a in accounts], "refresh_rate": float(np.nanmean([a.refresh_rate for a in accounts])),
                "state_bytes": max(a.state_bytes for a in accounts),
            })  # fmt: skip


def _names(level: float) -> tuple[str, ...]:
    """Return the rows that are asked for at a level: all at the first of those that write several genes, some at the others."""
    few = ("uncached", "elastic, calibrated", "elastic, paper's window of 16 and gamma")
    if level == COMMITS[0]:
        return ("uncached, one gene a step", *few)
    every = (
        *few, "all rows, by the same driver", "any place, uncached", "prefix cache", "dual block cache", "delayed cache", "refresh every 8 steps", "never refreshed",
        "elastic, written genes not asked again", "elastic, column", "elastic, refresh without far masks",
    )  # fmt: skip
    return every if level == COMMITS[2] else few


def in_turn(length: int, seed: int, folder: Path) -> None:
    """Write the same cells with a model that foretells the next gene."""
    path = _path("cells", length, "in turn", seed)
    if path.exists():
        return
    known = model("next_token", length, seed, folder)
    kinds, requests = asked_of(known, length, seed)
    decoder, answers, seconds = PrefixDecoder(known.model), [], []
    with decoder.attached():
        for request in requests:
            prompt, key, constraint = request.prompt.tolist(), np.array([[request.key]]), request.constraint
            assert constraint is not None
            begun = time.perf_counter()
            drawn = sample_answers(decoder, [prompt[:-1]], [[prompt[-1:]]], constraint, key, pad=known.tokens.pad)
            seconds.append(time.perf_counter() - begun)
            answers.append(drawn[0, 0, 0])
    written = sentences_of(known, answers, kinds)
    _keep(
        path,
        {
            "row": "in turn, keys and values kept",
            "length": length,
            "seed": seed,
            **quality(written, length),
            "seconds": seconds,
        },
    )


def real(length: int, seed: int, folder: Path) -> None:
    """Judge held-out cells as if they had been written."""
    path = _path("cells", length, "real", 0)
    if not path.exists():
        held = judges(length).held_out
        _keep(path, {"row": REAL, "length": length, "seed": 0, **quality(held, length), "seconds": []})


def wall_of(length: int, seed: int, folder: Path) -> None:
    """Time rows side by side on the trained model."""
    path = _path("wall", length, "trained", seed)
    if path.exists():
        return
    known = model("masked_diffusion", length, seed, folder)
    parts = DecoderParts.of(known.model, mask_id=known.tokens.mask)
    requests = asked_of(known, length, seed + 2000)[1]
    made = {level: rows(parts, requests[-SAMPLE:], commit=level, temperature=1.0) for level in COMMITS[::2]}
    _keep(path, {"length": length, "seed": seed, **wall(parts, requests, made)})


def wide_of(length: int, seed: int, folder: Path) -> None:
    """Time rows on wide weights that were trained briefly; lengths from 256 on."""
    path = _path("wide", length, "brief", seed)
    if path.exists() or length < 256:
        return
    _keep(path, {"length": length, "seed": seed, **wide(length, seed)})


def asked_of(known: CellLM, length: int, seed: int) -> tuple[list[str], list[Request]]:
    """Return the types of the cells asked for, and the requests: exactly ``length`` genes each, then the end."""
    kinds = [kind for kind in sorted(set(pool(length)[0].obs["label"])) for _ in range(PER_KIND)]
    task, tokens = CellGeneration(n_genes=length), known.tokens
    constraint = Constraint(
        torch.from_numpy(tokens.gene_tokens),
        [Segment(length, tokens.marks["end"], length)],
        n_tokens=len(tokens),
        pad=tokens.pad,
    )
    keys = noise_keys(seed, _index(len(kinds)), 1)[:, 0]
    prompts = [torch.tensor(tokens.render(task.prompt({"cell_type": kind}))) for kind in kinds]
    return kinds, [Request(prompt, length + 1, constraint, int(key)) for prompt, key in zip(prompts, keys)]


def sentences_of(known: CellLM, answers: Sequence[torch.Tensor], kinds: Sequence[str]) -> CellSentences:
    """Return answers as sentences."""
    task = CellGeneration()
    lists = [task.parse(known.tokens.parts(answer.tolist())) for answer in answers]
    return CellSentences.from_lists(
        lists, known.vocabulary, obs=pd.DataFrame({"cell_type": kinds}, index=_index(len(kinds))),
        encoding=Encoding(**known.settings.encoding), background=known.background,
    )  # fmt: skip


def _index(n: int) -> list[str]:
    return [f"cell{i}" for i in range(n)]


def _path(study: str, length: int, row: str, seed: int) -> Path:
    return MADE / f"{study}-{length}-{row.replace(', ', '-').replace(' ', '_')}-{seed}.json"


def _keep(path: Path, record: dict[str, Any]) -> None:
    write_json(path, {**record, "commit": commit()})
    told = {name: value for name, value in record.items() if isinstance(value, str | int | float)}
    logger.info(
        "%s",
        "; ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
        ),
    )


if __name__ == "__main__":
    main()
