"""The dual-context screen against a planted truth: does it rank and call conditional amplifiers, and does it stay silent?

A grid of cached runs, seed by seed, in ``runs/bench/screen``: training, the demo's screen, and libraries in which every
drug is inert. Run: ``python -m benchmarks.screen.run [--seeds 0 1 2 3 4] [--libraries 20]``; a killed run goes on where
it was, and the card is written from whatever seeds are complete. Two sittings may share the seeds between them
(``--seeds 0 1`` and ``--seeds 2 3 4``); a last one without seeds writes the card.
"""

from __future__ import annotations

import argparse
import inspect
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.card import ROOT, Figure, code_hash, write_card
from c2s.artefacts import hash_of, read_json, write_json
from c2s.cells.library import Perturbation
from c2s.cells.simulate import CLASSES, SimulatedScreen, made_up_names, mechanism_of, simulate_screen, simulated_genes
from c2s.demo.simulated import SCREENING, TRAINING, screen_simulated, train_simulated
from c2s.models.cell_lm import CellLM
from c2s.models.loading import load_cell_lm
from c2s.screening.config import ScreenConfig
from c2s.screening.effects import ScreenEffects
from c2s.screening.hits import call_hits
from c2s.screening.measure import gather, run_blocks
from c2s.screening.plan import make_plan
from c2s.stats import proportion_interval

FOLDER = Path(__file__).parent
RUNS = ROOT / "runs" / "bench" / "screen"
SEEDS = (0, 1, 2, 3, 4)
LIBRARIES = 20  # inert libraries per trained model
DRUGS, UNSEEN = 40, 12  # drugs of an inert library, and how many of them act on targets never seen
TOGETHER = 10  # libraries screened with the same draw of decoys


def main() -> None:
    """Run what is missing and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument(
        "--inert-seeds",
        type=int,
        nargs="*",
        default=None,
        help="seeds whose inert libraries are run [default: --seeds]",
    )
    parser.add_argument("--libraries", type=int, default=LIBRARIES)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = {name: p.default for name, p in inspect.signature(simulate_screen).parameters.items() if name != "seed"}
    recipe = hash_of({"simulation": sizes, "training": TRAINING, "screening": SCREENING}, code_hash())
    results, nulls = [], []
    for seed in arguments.seeds:
        results.append(planted(seed, RUNS / recipe / f"seed{seed}"))
    for seed in arguments.seeds if arguments.inert_seeds is None else arguments.inert_seeds:
        nulls.append(inert(seed, RUNS / recipe / f"seed{seed}", arguments.libraries))
    write_card(
        FOLDER,
        figures(results, nulls),
        data={"name": "simulated screens (c2s.cells.simulate)", "simulation": sizes, "training": TRAINING, "screening": SCREENING, "recipe": recipe},
        notes=[
            "Responses are simulated. A seed draws classes of targets, names, baselines, cells, the model and the screen.",
            "ROC areas: planted amplifiers against all other held-out drugs with seen targets, ranked by split. Low and high: smallest and largest seed.",
            "Seconds count the sitting that judged each seed; work items that an earlier sitting stored are not run again.",
            "Inert libraries: 40 drugs without any effect (12 with unseen targets) and the demo's positive controls; the interval is Clopper-Pearson, and libraries of one model share it.",
        ],
        seconds=sum(part["seconds"] for part in (*results, *nulls)),
    )  # fmt: skip


def planted(seed: int, folder: Path) -> dict[str, Any]:
    """Return the demo's result of a seed, from the cache or by running it."""
    cache = folder / "planted.json"
    if cache.is_file():
        return dict(read_json(cache))
    begun = time.perf_counter()
    simulated = simulate_screen(seed)
    model, seconds = trained(simulated, folder)
    table = screen_simulated(model, simulated, folder / "screen", progress=False)
    record = table.attrs["record"]
    drugs = table[table["role"] == "drug"]
    seen = drugs[drugs["support"] != "unseen"]
    means = seen.groupby("planted_class")[["effect_first", "effect_second", "split"]].mean()
    called = seen.loc[seen["hit"], "planted_class"].value_counts()
    out = {
        "seed": seed, **record["demo"], "seen_hits_by_class": called.to_dict(), "gates": {gate["name"]: gate["passed"] for gate in record["gates"]},
        "baselines": record["gates"][-1]["values"], "train_seconds": seconds,
        "mean_effects": means.round(4).to_dict(orient="index"), "smallest_p": record["smallest_p"], "seconds": time.perf_counter() - begun,
    }  # fmt: skip
    write_json(cache, out)
    return out


def trained(simulated: SimulatedScreen, folder: Path) -> tuple[CellLM, float]:
    """Return the model of a seed and the seconds its training took."""
    run = folder / "run"
    if not (run / "model" / "c2s.json").is_file():
        train_simulated(simulated, run, overwrite=run.exists(), progress=False)
    model = load_cell_lm(run)
    return model, float(model.settings.training["seconds"])


def inert(seed: int, folder: Path, libraries: int) -> dict[str, Any]:
    """Return how many all-inert libraries had any hit, from the cache or by running them."""
    cache = folder / f"inert{libraries}.json"
    if cache.is_file():
        return dict(read_json(cache))
    begun = time.perf_counter()
    simulated = simulate_screen(seed)
    model, _ = trained(simulated, folder)
    any_hit, smallest = [], []
    for batch in range(-(-libraries // TOGETHER)):
        many = [
            inert_library(simulated, number)
            for number in range(batch * TOGETHER, min((batch + 1) * TOGETHER, libraries))
        ]
        controls = [row for row in simulated.library if row.role != "drug"]
        config = ScreenConfig(**SCREENING, n_reference=0, seed=1000 * (seed + 1) + batch)
        plan = make_plan(model, simulated.screening, [*controls, *(row for rows in many for row in rows)], config)
        run_blocks(model, plan, folder / f"inert{batch}", range(len(plan.blocks)), progress=False)
        effects, _ = gather(plan, folder / f"inert{batch}")
        positive = [row.name for row in controls if row.role == "positive_control"]
        for rows in many:
            table = call_hits(
                only(effects, {row.name for row in (*controls, *rows)}), positive_controls=positive, seed=config.seed
            )
            drugs = table[table["role"] == "drug"]
            any_hit.append(bool(drugs["hit"].any()))
            smallest.append(float(drugs["q_value"].min()))
    out = {"seed": seed, "libraries": len(any_hit), "with_hit": int(np.sum(any_hit)), "smallest_q": smallest,
           "seconds": time.perf_counter() - begun}  # fmt: skip
    write_json(cache, out)
    return out


def inert_library(simulated: SimulatedScreen, number: int) -> list[Perturbation]:
    """Return drugs without any effect: new names on inert targets seen in training, and on targets never seen."""
    rng = np.random.default_rng([simulated.seed, 97, number])
    truth = simulated.truth
    genes = simulated_genes(simulated.training.n_vars)
    used = set(truth["target"])
    silent = sorted(set(truth.loc[(truth["planted_class"] == CLASSES[0]) & truth["target_seen"], "target"]))
    novel = sorted(set(genes.loc[genes["part"] == "target", "symbol"]) - used)
    targets = [str(rng.choice(novel if i < UNSEEN else silent)) for i in range(DRUGS)]
    taken = {row.name for row in (*simulated.library, *simulated.training_library)}
    names = [f"{name}{number}" for name in made_up_names(DRUGS, rng, taken=taken)]
    return [
        Perturbation(name, targets=(target,), mechanism=mechanism_of(target))
        for name, target in zip(names, targets, strict=True)
    ]


def only(effects: ScreenEffects, names: set[str]) -> ScreenEffects:
    """Return the effects without the library rows outside ``names``."""
    keep = ((effects.rows["set"] != "library") | effects.rows["name"].isin(names)).to_numpy()
    return ScreenEffects(
        rows=effects.rows[keep].reset_index(drop=True), cells=effects.cells,
        effect={name: values[keep] for name, values in effects.effect.items()}, vehicle_score=effects.vehicle_score,
        rank_shift=effects.rank_shift[keep], control_rank=effects.control_rank, present=effects.present,
        programme=effects.programme, gene_symbols=effects.gene_symbols, contexts=effects.contexts, max_rank=effects.max_rank,
    )  # fmt: skip


def figures(results: list[dict[str, Any]], nulls: list[dict[str, Any]]) -> list[Figure]:
    """Return the card's figures."""
    seeds = [result["seed"] for result in results]
    n = len(seeds)
    areas = {name: np.array([result["auc"][name] for result in results]) for name in ("model", "ridge", "knn")}
    model = areas["model"]
    enough = int((model >= 0.90).sum())
    hits = {
        key: np.array([np.nan if result[key] is None else result[key] for result in results], dtype=float)
        for key in ("precision", "recall")
    }
    artefacts, seen_artefacts = (
        sum(result[hits].get(kind, 0) for result in results for kind in ("floor", "ceiling"))
        for hits in ("hits_by_class", "seen_hits_by_class")
    )
    median = float(np.median(model))
    out = [
        Figure("ROC area of the split, model, median over seeds", median, float(model.min()), float(model.max()), n, seeds,
               ">= 0.95", median >= 0.95, None if median >= 0.95 else "see the per-seed areas"),
        Figure("seeds with ROC area of the model >= 0.90", float(enough), None, None, n, seeds, ">= 4 of 5", enough >= 4,
               None if enough >= 4 else f"areas {np.round(model, 3).tolist()} of {n} seeds"),
    ]  # fmt: skip
    out += [
        Figure(f"ROC area of the split, {label}, median over seeds", float(np.median(areas[name])), float(areas[name].min()), float(areas[name].max()), n, seeds)
        for name, label in (("ridge", "ridge on targets x context"), ("knn", "nearest neighbours on targets"))
    ]  # fmt: skip
    for key, bar in (("precision", 0.8), ("recall", 0.7)):
        value = float(np.nanmedian(hits[key])) if np.isfinite(hits[key]).any() else float("nan")
        with_hits = int(np.isfinite(hits[key]).sum())  # precision has no value where nothing is called
        met = bool(value >= bar)
        out.append(
            Figure(f"{key} of the hits, median over seeds", value, float(np.nanmin(hits[key])), float(np.nanmax(hits[key])), with_hits, seeds,
                   f">= {bar}", met, None if met else f"per seed {np.round(hits[key], 2).tolist()}")
        )  # fmt: skip
    out.append(
        Figure("floor and ceiling cases among the hits, all seeds", float(artefacts), None, None, n, seeds, "0", artefacts == 0,
               None if artefacts == 0 else f"{artefacts - seen_artefacts} of them act on targets that training never saw: the model takes them for amplifiers, whatever was planted")
    )  # fmt: skip
    out.append(
        Figure(
            "floor and ceiling cases among the hits with seen targets, all seeds",
            float(seen_artefacts),
            None,
            None,
            n,
            seeds,
        )
    )
    with_hit, libraries = sum(null["with_hit"] for null in nulls), sum(null["libraries"] for null in nulls)
    if libraries:
        share = proportion_interval(with_hit, libraries)
        enough_libraries = libraries >= LIBRARIES * len(SEEDS)
        met = bool(share.value <= 0.15) and enough_libraries
        reason = f"{with_hit} of {libraries} libraries have a hit" + (
            "" if enough_libraries else f"; {LIBRARIES * len(SEEDS)} were asked for, the rest is still to be run"
        )
        out.append(
            Figure("share of all-inert libraries with any hit at q < 0.1", float(share.value), float(share.low), float(share.high), libraries,
                   [null["seed"] for null in nulls], "<= 0.15 over 100 libraries", met, None if met else reason)
        )  # fmt: skip
    seconds = [result["train_seconds"] for result in results]
    out.append(
        Figure(
            f"training seconds, {torch.get_num_threads()} threads, median over seeds",
            float(np.median(seconds)),
            min(seconds),
            max(seconds),
            n,
            seeds,
        )
    )
    rmse = {
        name: [r["baselines"]["scores"][name]["rmse"] for r in results if r["baselines"].get("scores")]
        for name in ("model", "ridge", "knn", "mean")
    }
    out += [
        Figure(f"RMSE of the programme's change on held-out training drugs (log1p CP10k), {name}, median over seeds", float(np.median(values)), min(values), max(values), len(values), seeds)
        for name, values in rmse.items() if values
    ]  # fmt: skip
    return out


if __name__ == "__main__":
    main()
