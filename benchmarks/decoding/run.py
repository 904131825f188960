"""Decoding held-out cells: three models and two baselines, by background and hash ties and of generated sentences.

Run: ``C2S_DATA_DIR=… python -m benchmarks.decoding.run`` (about ten minutes on one core; needs ``pip install "c2s[bench]"``).
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

import c2s
from benchmarks.card import ROOT, Figure, write_card
from benchmarks.decoding import plots
from benchmarks.decoding.generated import frequent_genes, profiles, written
from benchmarks.decoding.scores import downstream, entry_scores, gene_means, log_values, worst
from c2s.cells.reading import expression, read_cells

MODELS = plots.MODELS
TIES = ("hash", "background")
SEEDS = (0, 1, 2)
TRAIN_SHARE = 0.7
BARS = {
    ("pbmc3k", "R2"): 0.97, ("pbmc3k", "skill over each gene's mean"): 0.93,
    ("pbmc4k", "R2"): 0.97, ("pbmc4k", "skill over each gene's mean"): 0.90,
    ("pbmc3k to pbmc4k", "R2"): 0.95, ("pbmc3k to pbmc4k", "skill over each gene's mean"): 0.85,
}  # fmt: skip
PICTURES = ROOT / "docs" / "_static"


def main() -> None:
    """Measure and write the card and the pictures."""
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/ and pbmc4k_soupx/"
        raise SystemExit(msg)
    begun = time.perf_counter()
    data = {
        "pbmc3k": cells(Path(place) / "pbmc3k" / "pbmc3k_counts.h5ad", "cell_type"),
        "pbmc4k": cells(Path(place) / "pbmc4k_soupx" / "pbmc4k_counts.h5ad", "Annotation"),
    }
    found: dict[tuple[str, str, str, str], list[float]] = {}
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    ratios: list[np.ndarray] = []
    for seed in SEEDS:
        for name, adata in data.items():
            train, test = split(adata, seed)
            one_split(found, name, train, test, seed, pairs, ratios)
    shared = data["pbmc3k"].var_names.intersection(data["pbmc4k"].var_names)
    one_split(found, "pbmc3k to pbmc4k", data["pbmc3k"], data["pbmc4k"][:, shared].copy(), 0, {}, [])
    figures = [figure(key, values) for key, values in found.items()]
    figures += uncertainty(ratios)
    figures += of_generated(*split(data["pbmc3k"], 0))
    plots.truth_against_decoded(pairs, PICTURES / "decoding_values.png")
    chosen = {key[:3]: values for key, values in found.items() if key[3].startswith("skill") and key[2] in MODELS}
    plots.skill_bars(chosen, PICTURES / "decoding_skill.png")
    plots.calibration(np.concatenate(ratios), PICTURES / "decoding_errors.png")
    sizes = {name: f"{a.n_obs:,} labelled cells x {a.n_vars:,} genes" for name, a in data.items()}
    write_card(
        Path(__file__).parent, figures, data={"name": ", ".join(data), **sizes, "train_share": TRAIN_SHARE},
        notes=[
            "Each split: background and decoder see training cells only; medians over three random splits (from pbmc3k to pbmc4k there is one), low and high are the least and greatest. One donor each: splits share a batch, pbmc3k to pbmc4k does not.",
            "Entries are the genes that held-out cells express, full sentences, log1p CP10k. Skill is 1 - SSE / SSE of each gene's mean over the training cells that express it, which is the baseline 'gene mean' (skill 0); 'one mean' is a single number (R2 0 in the training cells).",
            "hash: ties by a hash of cell and gene, which says nothing of the counts. background: the tie order falls where a block of equal counts ends, and gene_aware reads that.",
            "Where the tie order says nothing, gene_aware gives way to the surface in cells whose leading 50 genes are on average 0.3 to 0.8 below it; these numbers were chosen on the training cells of split 0 of pbmc3k and pbmc4k, some of which other splits hold out. The worst type of pbmc3k is the platelets: 14 cells in all, two to four of them held out.",
            "Downstream: Leiden (50 components, 15 neighbours, resolution 1), log-fold changes of each type against the rest over genes that a tenth of a type expresses, kNN (15) trained on the original training cells.",
            "Generated: a c2s-mini trained on the training cells of pbmc3k wrote 150 cells of each of the four commonest types, 200 genes of the 2,000 most frequent, number of expressed genes unknown; decoders fitted to the same genes. Truth: held-out cells of the type, genes among their first 200. Beside it real sentences cut and stripped in the same way, where only decoding errs.",
        ],
        seconds=time.perf_counter() - begun,
    )  # fmt: skip


def cells(path: Path, key: str) -> ad.AnnData:
    """Return the labelled cells of a file, counts, genes made unique by adding them up."""
    adata = read_cells(path)
    matrix, genes = expression(adata, on_collision="sum")
    kept = adata.obs[key].notna().to_numpy() & (adata.obs[key] != "?").to_numpy()
    labels = adata.obs[[key]].rename(columns={key: "cell_type"}).astype(str)
    found = ad.AnnData(sp.csr_matrix(matrix[kept]), obs=labels[kept])
    found.var_names = genes
    return found


def split(adata: ad.AnnData, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Return 70 % of the cells and the others."""
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    n = int(TRAIN_SHARE * adata.n_obs)
    return adata[np.sort(order[:n])].copy(), adata[np.sort(order[n:])].copy()


def one_split(
    found: dict[tuple[str, str, str, str], list[float]], name: str, train: ad.AnnData, test: ad.AnnData, seed: int,
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], ratios: list[np.ndarray],
) -> None:  # fmt: skip
    """Add the scores of every model and tie order to ``found``, and what the pictures show to ``pairs`` and ``ratios``."""
    place = train.var_names.get_indexer(test.var_names)
    known, truth = log_values(train), log_values(test).sorted_indices()
    means = gene_means(known)[place]
    baselines = {"gene mean": means[truth.indices], "one mean": np.full(truth.nnz, known.data.mean())}
    for baseline, values in baselines.items():
        cheap = sp.csr_matrix((values.astype(np.float32), truth.indices, truth.indptr), truth.shape)
        for measure, value in entry_scores(truth, cheap, means).items():
            if not np.isnan(value) and (baseline != "one mean" or measure == "R2"):
                found.setdefault((name, "any", baseline, measure), []).append(value)
    own = c2s.GeneVocabulary.from_symbols(list(test.var_names))
    for ties in TIES:
        background = c2s.Background.fit(train) if ties == "background" else None
        sentences = c2s.encode(test, ties=ties, background=background, vocabulary=own, seed=seed)
        for model in MODELS:
            decoder = c2s.RankDecoder.fit(train, ties=ties, background=background, model=model)
            back = decoder.decode(sentences, uncertainty=model == "gene_aware")
            decoded = sp.csr_matrix(back.X).sorted_indices()
            if decoded.nnz < truth.nnz:  # the line of the literature, cut off at 0
                decoded = filled(decoded, truth)
            scores = entry_scores(truth, decoded, means) | {
                "R2 of the worst cell type": worst(truth, decoded, labels(test))
            }
            if ties == "hash" and seed in SEEDS and name == "pbmc3k":
                scores |= downstream(known, truth, decoded, (labels(train), labels(test)))
                pairs.setdefault(model, (truth.data, decoded.data))
                if model == "gene_aware":
                    ratios.append((truth.data - decoded.data) / sp.csr_matrix(back.layers["sd"]).sorted_indices().data)
            for measure, value in scores.items():
                found.setdefault((name, ties, model, measure), []).append(value)


def filled(decoded: sp.csr_matrix, truth: sp.csr_matrix) -> sp.csr_matrix:
    """Return ``decoded`` with the entries of ``truth``, 0 where it has none."""
    cells = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    values = np.asarray(decoded[cells, truth.indices]).ravel()
    return sp.csr_matrix((values, truth.indices, truth.indptr), truth.shape)


def labels(adata: ad.AnnData) -> np.ndarray:
    """Return the cell types."""
    return adata.obs["cell_type"].to_numpy(dtype=str)


def figure(key: tuple[str, str, str, str], values: list[float]) -> Figure:
    """Return the median over splits, with the bar where there is one."""
    name, ties, model, measure = key
    value = statistics.median(values)
    bar = BARS.get((name, measure)) if (ties, model) == ("hash", "gene_aware") else None
    met = None if bar is None else value >= bar
    title = f"{name}, {ties} ties, {model}: {measure}" if ties != "any" else f"{name}, baseline {model}: {measure}"
    return Figure(
        title, value, min(values), max(values), n=len(values), seeds=list(SEEDS[: len(values)]),
        bar=None if bar is None else f">= {bar}", met=met, reason="below what was asked for" if met is False else None,
    )  # fmt: skip


def uncertainty(ratios: list[np.ndarray]) -> list[Figure]:
    """Return how the stated standard deviations compare with the errors of held-out entries."""
    measures = {
        "mean of (error / stated deviation) squared, 1 if calibrated": lambda r: float(np.mean(r**2)),
        "share of errors within one stated deviation, 0.68 if normal": lambda r: float(np.mean(np.abs(r) <= 1)),
        "share of errors within two, 0.95 if normal": lambda r: float(np.mean(np.abs(r) <= 2)),
    }
    found = {name: [measure(each) for each in ratios] for name, measure in measures.items()}
    return [
        Figure(f"pbmc3k, hash ties, gene_aware: {name}", statistics.median(v), min(v), max(v), n=len(v), seeds=list(SEEDS))
        for name, v in found.items()
    ]  # fmt: skip


def of_generated(train: ad.AnnData, test: ad.AnnData) -> list[Figure]:
    """Return the scores of every model on generated sentences and on real ones cut and stripped alike."""
    genes = frequent_genes(train)
    train, test = train[:, genes].copy(), test[:, genes].copy()
    background = c2s.Background.fit(train)
    sentences = written(train)
    figures = []
    for model in MODELS:
        decoder = c2s.RankDecoder.fit(train, background=background, model=model)
        scores = profiles(decoder, sentences, test, "background", background)
        for source, each in zip(("generated", "real, cut and stripped"), scores, strict=True):
            figures += [
                Figure(f"pbmc3k, {source}, {model}: {name}", value, n=len(sentences), seeds=[0])
                for name, value in each.items()
            ]
    return figures  # fmt: skip


if __name__ == "__main__":
    main()
