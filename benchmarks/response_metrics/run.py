"""Is scFID right where the truth is known, what of its bias is left, and how long do all response metrics take?

Run: ``python -m benchmarks.response_metrics.run`` (some minutes on 2 cores; simulated cells only).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from benchmarks.card import Figure, write_card
from c2s.metrics.cell_fid import scfid
from c2s.metrics.frechet import frechet_distance, gaussian_frechet, sample_frechet
from c2s.metrics.perturbation import response_scores

DRAWS, DIMENSIONS = 200, 64
LEFT, CLOSED, SECONDS = 0.1, 1e-6, 60.0
COVERED = 100  # intervals of two halves
PERTURBATIONS, CELLS, GENES = 100, 500, 2000

Array = NDArray[np.float64]


def main() -> None:
    """Measure and write the card."""
    begun, load = time.perf_counter(), os.getloadavg()[0]
    figures = [closed_form(), halves(), *biases(640, 64), *biases(200, 20), *projected(), *speed()]
    write_card(
        Path(__file__).parent, figures,
        data={"cells": "simulated", "spectrum": "standard deviations fall as exp(-k / 20) over 64 dimensions"},
        notes=[
            f"Bias: mean over {DRAWS} pairs of samples of the estimate less the distance of the two Gaussians they were drawn from; intervals are two standard errors of that mean. Of equal Gaussians, and of one wider by a fifth and moved by a tenth in every dimension.",
            "200 cells get 20 dimensions, a tenth: the leading axes of the distribution, and, where it says 'through scfid', those of the real cells, as a user has it.",
            f"Time: {PERTURBATIONS} perturbations of {CELLS} cells and {GENES:,} genes, {CELLS} controls, half of the genes off-programme; point estimates of all metrics and scFID, compiled code loaded.",
            f"One-minute load average at the start {load:.1f}, at the end {os.getloadavg()[0]:.1f}; other work on the machine slows the figures of time.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def scales(d: int = DIMENSIONS) -> Array:
    """Return the standard deviations of the leading dimensions."""
    return np.exp(-np.arange(d) / 20)


def closed_form() -> Figure:
    """Return the largest relative error over Gaussians that commute, singular ones among them."""
    rng, worst = np.random.default_rng(0), 0.0
    for draw in range(200):
        one, other = rng.gamma(1, 1, size=(2, DIMENSIONS)) * (rng.random((2, DIMENSIONS)) < (1.0 if draw % 2 else 0.7))
        turn, shift = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0], rng.normal(size=DIMENSIONS)
        truth = shift @ shift + ((one - other) ** 2).sum()
        found = gaussian_frechet(
            np.zeros(DIMENSIONS), turn @ np.diag(one**2) @ turn.T, shift, turn @ np.diag(other**2) @ turn.T
        )
        worst = max(worst, abs(found - truth) / truth)
    return Figure(
        "Fréchet distance of Gaussians against the closed form: largest relative error", worst, n=200, bar="<= 1e-6", met=worst <= CLOSED,
        reason=None if worst <= CLOSED else "the factors of singular covariances are not exact enough",
    )  # fmt: skip


def halves() -> Figure:
    """Return how often the 95 % interval of two halves of the same cells holds 0."""
    rng, held = np.random.default_rng(1), 0
    for draw in range(COVERED):
        cells = rng.normal(size=(400, 20)) * scales(20)
        interval = frechet_distance(cells[:200], cells[200:], n_resamples=99, seed=draw)
        held += interval.low <= 0 <= interval.high
    share = held / COVERED
    return Figure(
        "two halves of the same cells, 200 each, 20 dimensions: share of 95 % intervals that hold 0", share, n=COVERED, bar=">= 0.9",
        met=share >= 0.9, reason=None if share >= 0.9 else "the resamples spread less than the estimate",
    )  # fmt: skip


def biases(n: int, d: int) -> list[Figure]:
    """Return what of the plug-in's bias is left, for equal and for different Gaussians."""
    found = []
    for kind, wider, moved in (("equal", 1.0, 0.0), ("different", 1.2, 0.1)):
        rng = np.random.default_rng(n)
        scale = scales(d)
        truth = gaussian_frechet(np.zeros(d), np.diag(scale**2), np.full(d, moved), np.diag((wider * scale) ** 2))
        plain, ours = np.zeros(DRAWS), np.zeros(DRAWS)
        for draw in range(DRAWS):
            one, other = rng.normal(size=(n, d)) * scale, rng.normal(size=(n, d)) * scale * wider + moved
            plain[draw] = sample_frechet(one, other, "plain") - truth
            ours[draw] = frechet_distance(one, other, n_resamples=0, seed=draw).value - truth
        found += share(f"{n} cells, {d} dimensions, {kind} Gaussians", plain, ours)
    return found


def projected() -> list[Figure]:
    """Return the bias of ``scfid`` itself, which projects 200 cells of 64 dimensions to 20 axes of the real ones."""
    rng = np.random.default_rng(3)
    plain, ours = np.zeros(DRAWS), np.zeros(DRAWS)
    for draw in range(DRAWS):
        sides = [
            ad.AnnData(np.zeros((200, 1), dtype=np.float32), obsm={"v": rng.normal(size=(200, DIMENSIONS)) * scales()})
            for _ in range(2)
        ]
        row = scfid(*sides, embedder=lambda cells: cells.obsm["v"], n_dimensions=20, n_resamples=0, seed=draw)[0]
        ours[draw] = row.value
        axes = np.linalg.svd(sides[0].obsm["v"] - sides[0].obsm["v"].mean(0), full_matrices=False)[2][:10].T
        plain[draw] = sample_frechet(sides[0].obsm["v"] @ axes, sides[1].obsm["v"] @ axes, "plain")
    return share("200 cells, equal Gaussians, 10 axes of the real cells, through scfid", plain, ours)


def share(name: str, plain: Array, ours: Array) -> list[Figure]:
    """Return the plug-in's bias, the share of it that is left, and the spread of single estimates."""
    left, error = ours.mean() / plain.mean(), 2 * ours.std(ddof=1) / np.sqrt(len(ours)) / abs(plain.mean())
    met = abs(left) <= LEFT
    return [
        Figure(f"{name}: bias of the plug-in distance", float(plain.mean()), n=len(plain)),
        Figure(
            f"{name}: bias left, as a share of the plug-in's", float(left), float(left - error), float(left + error), n=len(ours),
            bar="at most 0.1 either way", met=met, reason=None if met else "axes of the real sample fit it better than the other one",
        ),
        Figure(f"{name}: standard deviation of an estimate (of the plug-in's in the row below)", float(ours.std(ddof=1)), n=len(ours)),
        Figure(f"{name}: standard deviation of the plug-in distance", float(plain.std(ddof=1)), n=len(plain)),
    ]  # fmt: skip


def speed() -> list[Figure]:
    """Return the seconds that all point estimates take."""
    rng = np.random.default_rng(0)
    base = rng.gamma(0.3, 1.0, size=GENES)

    def cells(shift: Array) -> sp.csr_matrix:
        counts = rng.poisson(base * np.exp(shift) * rng.gamma(4, 0.25, size=(CELLS, 1)))
        return sp.csr_matrix(np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(np.float32))

    shifts = rng.normal(0, 0.8, size=(PERTURBATIONS, GENES)) * (rng.random((PERTURBATIONS, GENES)) < 0.05)
    names = np.repeat([f"p{p}" for p in range(PERTURBATIONS)], CELLS)
    genes = [f"G{gene}" for gene in range(GENES)]

    def data(parts: list[sp.csr_matrix], labels: NDArray[np.str_]) -> ad.AnnData:
        index = pd.Index([f"cell{i}" for i in range(len(labels))])
        return ad.AnnData(
            sp.vstack(parts).tocsr(), obs=pd.DataFrame({"p": labels}, index=index), var=pd.DataFrame(index=genes)
        )

    real = data([cells(np.zeros(GENES)), *map(cells, shifts)], np.concatenate([np.repeat(["control"], CELLS), names]))
    predicted = data([cells(shift / 2) for shift in shifts], names)
    asked = {"perturbation_key": "p", "control": "control", "off_programme": genes[GENES // 2 :]}
    few = [each[each.obs["p"].isin(["control", "p0", "p1"])].copy() for each in (real, predicted)]
    response_scores(*few, **asked)
    begun = time.perf_counter()
    response_scores(real, predicted, **asked)
    scores = time.perf_counter() - begun
    from c2s.metrics.perturbation import space_of

    space, treated = space_of(real, None, "p", "control"), real[real.obs["p"] != "control"]
    begun = time.perf_counter()
    scfid(treated, predicted, embedder=space, groupby="p", n_resamples=0)
    frechet = time.perf_counter() - begun
    met = scores + frechet < SECONDS
    return [
        Figure("all point estimates, seconds", scores + frechet, n=PERTURBATIONS, bar="< 60", met=met,
               reason=None if met else "distances in the space of genes and Sinkhorn divergences take most of it"),
        Figure("of these scFID with its floors, seconds", frechet, n=PERTURBATIONS),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
