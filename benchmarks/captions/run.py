"""Captions of held-out pbmc3k clusters: what copying the nearest training caption gets, and what any caption gets.

Run: ``C2S_DATA_DIR=… python -m benchmarks.captions.run`` (a minute; needs ``c2s[excel]``). No model is in the table yet: these are the
rows that one has to beat.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from benchmarks.card import Figure, write_card
from c2s.cells.descriptions import read_descriptions
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.cells.ontology import CellOntology
from c2s.cells.reading import expression, read_cells
from c2s.metrics.captions import caption_results
from c2s.sentences.encode import encode
from c2s.training.captions import TEMPLATES, ClusterFacts, caption_text, captions, cluster_facts

# labels of Seurat's tutorial that are no names of the Cell Ontology
TERMS = {
    "Naive CD4 T": "CL:0000895",  # naive thymus-derived CD4-positive, alpha-beta T cell
    "Memory CD4 T": "CL:0000897",  # CD4-positive, alpha-beta memory T cell
    "CD8 T": "CL:0000625",  # CD8-positive, alpha-beta T cell
    "CD14+ Mono": "CL:0001054",  # CD14-positive monocyte
    "FCGR3A+ Mono": "CL:0002396",  # CD14-low, CD16-positive monocyte
    "DC": "CL:0000451",  # dendritic cell
}
N_CLUSTERS, N_COMPONENTS, N_GENES = 40, 30, 2000
TEST_SHARE = 0.3
SEEDS = (0, 1, 2, 3, 4)
OTHER_WORDING = "the same facts, another template"
SPLITS = {"clusters": "clusters held out, types seen", "types": "types held out"}


def main() -> None:
    """Measure both splits with every seed and write the card."""
    place = os.environ.get("C2S_DATA_DIR")
    if not place:
        msg = "set C2S_DATA_DIR to the folder that holds pbmc3k/ and cell_ontology/"
        raise SystemExit(msg)
    begun = time.perf_counter()
    folder = Path(place)
    adata = read_cells(folder / "pbmc3k" / "pbmc3k_counts.h5ad")
    adata = adata[adata.obs["cell_type"].notna()].copy()
    values = variable(counts_to_log1p_cp10k(expression(adata)[0]).toarray())
    space = PCA(N_COMPONENTS, random_state=0).fit_transform(values)
    adata.obs["cluster"] = KMeans(N_CLUSTERS, n_init=5, random_state=0).fit_predict(space).astype(str)
    facts = cluster_facts(
        encode(adata), cluster_key="cluster", labels_key="cell_type",
        ontology=CellOntology.read(folder / "cell_ontology" / "cl-basic.obo.gz"),
        descriptions=read_descriptions(folder / "cell_ontology" / "CellGuide_Validated_Descriptions.xlsx"), table=TERMS,
    )  # fmt: skip
    means = np.stack([values[(adata.obs["cluster"] == each.cluster).to_numpy()].mean(axis=0) for each in facts])
    found: dict[str, list[float]] = {}
    sizes: list[int] = []
    for split in SPLITS:
        for seed in SEEDS:
            held_out = chosen(facts, split, seed)
            sizes.append(int(held_out.sum()))
            for name, value in one_split(facts, means, held_out, seed).items():
                found.setdefault(f"{name} ({SPLITS[split]})", []).append(value)
    write_card(
        Path(__file__).parent, [figure(name, each) for name, each in found.items()],
        data={"name": "pbmc3k, labelled cells", "cells": adata.n_obs, "clusters": len(facts), "types": len({majority(each) for each in facts}),
              "clusters held out, fewest and most": f"{min(sizes)}, {max(sizes)}"},
        notes=notes(), seconds=time.perf_counter() - begun,
    )  # fmt: skip


def variable(values: np.ndarray) -> np.ndarray:
    """Return the columns of largest variance, as many as ``N_GENES``."""
    return values[:, np.argsort(-values.var(axis=0), kind="stable")[:N_GENES]]


def majority(facts: ClusterFacts) -> str:
    """Return the most frequent type of a cluster."""
    return facts.composition[0][0]


def chosen(facts: list[ClusterFacts], split: str, seed: int) -> np.ndarray:
    """Return the mask of the clusters held out: drawn one by one, or all those of drawn types."""
    rng = np.random.default_rng([seed, 3])
    if split == "clusters":
        return np.isin(np.arange(len(facts)), rng.permutation(len(facts))[: round(TEST_SHARE * len(facts))])
    types = sorted({majority(each) for each in facts})
    drawn = set(rng.permutation(types)[: max(2, round(TEST_SHARE * len(types)))])
    return np.array([majority(each) in drawn for each in facts])


def one_split(facts: list[ClusterFacts], means: np.ndarray, held_out: np.ndarray, seed: int) -> dict[str, float]:
    """Return every value of the table for one split; nearness is judged in a space fitted to the training clusters."""
    written = captions(facts, seed=seed)
    texts = [caption.text for caption in written]
    reworded = [caption_text(caption.facts, (caption.template + 1) % len(TEMPLATES)) for caption in written]
    training = np.flatnonzero(~held_out)
    space = PCA(min(N_COMPONENTS, len(training) - 1), random_state=0).fit(means[training])
    test = np.flatnonzero(held_out)
    rows = caption_results(
        [texts[i] for i in test],
        {OTHER_WORDING: [reworded[i] for i in test]},
        vectors=space.transform(means[test]), training_vectors=space.transform(means[training]),
        training_captions=[texts[i] for i in training], seed=seed,
    )  # fmt: skip
    return {row.metric + (f" over {row.reference}" if row.reference else ""): row.value for row in rows}


def figure(name: str, values: list[float]) -> Figure:
    """Return the median over splits, with the smallest and largest."""
    return Figure(name, statistics.median(values), min(values), max(values), seeds=list(SEEDS))


def notes() -> list[str]:
    """Return how to read the card."""
    return [
        "Values are medians over five splits; low and high are the smallest and the largest split. One donor, one batch.",
        f"Clusters are k-means with k = {N_CLUSTERS} on {N_COMPONENTS} components of the {N_GENES} most variable genes; about {TEST_SHARE:.0%} "
        "of the clusters, or of the types with all their clusters, are held out. Markers are against all cells of the data set.",
        "'the same facts, another template' is the true caption in other words: about what a captioner that is right in everything gets "
        "if it does not guess the template. 'gain' is against the named row, over the same clusters.",
        "Where types are held out, the clusters of the test are of few types, and a shuffled caption is often of the right one; the nearest "
        "training caption never is.",
        "'verbatim' and 'longest run' of the true captions say how much of a held-out caption stands in the training captions anyway: "
        "the description of its type, and the template.",
    ]


if __name__ == "__main__":
    main()
