"""Tiny language models of cells with random weights: they answer at random, but they answer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from c2s.cells.genes import GeneVocabulary
from c2s.cells.library import Perturbation
from c2s.models.cell_lm import CellLM
from c2s.models.settings import ModelSettings, PerturbationSettings
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.background import Background
from c2s.sentences.corpus import CellSentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.delta import DeltaRule
from c2s.sentences.record import Encoding
from c2s.tasks import CellGeneration, CellTypeAnnotation, PerturbationResponse

HUMAN = GeneVocabulary(
    (
        "CD4",
        "CD8A",
        "B2M",
        "HLA-A",
        "HLA-DRB1",
        "MT-ND1",
        "7SK",
        "C1orf112",
        "NKX2-5",
        "T",
        "IL7R",
        "TAP1",
        "CSNK2A1",
        "JAK1",
    )
    + tuple(f"GENE{i}" for i in range(26))
)
MOUSE = GeneVocabulary(
    ("Cd4", "B2m", "0610009B22Rik", "Gm1992", "mt-Nd1", "Jak1", "a", "H2-K1", "Xist"), species="mouse"
)
ENSEMBL = GeneVocabulary(tuple(f"ENSG{i:011d}" for i in range(1000, 1023)))
VOCABULARIES = {"human": HUMAN, "mouse": MOUSE, "ensembl": ENSEMBL}

LABELS = ("B cell", "CD14 monocyte", "CD4 T cell", "γδ T")
SHARES = (0.1, 0.2, 0.6, 0.1)
DRUGS = (
    Perturbation("DMSO", mechanism="solvent", role="vehicle"),
    Perturbation("CX-4945", targets=("CSNK2A1", "NOT-A-GENE"), mechanism="kinase inhibitor", dose="5 uM", time="24 h"),
    Perturbation("IFN-β", targets=("JAK1", "CD4")),
    Perturbation("<end>", mechanism="<gene:CD4>"),
)
CONTEXTS = ("low", "none")


def tiny_transformer(n_tokens: int, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a Llama of width 32 and two layers; large initial weights make its answers differ from prompt to prompt."""
    torch.manual_seed(seed)
    settings = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 256, "tie_word_embeddings": True, "initializer_range": 0.4, "pad_token_id": 0,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=n_tokens, **{**settings, **changes})).eval()


def untrained(vocabulary: GeneVocabulary = HUMAN, *, target: str = "delta", seed: int = 0, **task: int) -> CellLM:
    """Return an untrained model that believes it was trained on all three tasks."""
    texts = [*LABELS, *CONTEXTS, *(text for p in DRUGS for text in (p.name, p.mechanism, p.dose, p.time) if text)]
    tokens = PartTokenizer(build_tokenizer(vocabulary, texts, n_pieces=280), vocabulary)
    rng = np.random.default_rng(seed)
    background = Background(vocabulary, rng.random(len(vocabulary)), 100)
    response = PerturbationResponse(
        **{"target": target, "n_genes": 10, "n_up": 4, "n_down": 3, "n_answer": 12, **task}  # type: ignore[arg-type]
    )
    rule = DeltaRule(
        np.ones(len(vocabulary)),
        np.linspace(2.0, 1.0, response.n_up),
        np.linspace(2.0, 1.0, response.n_down),
        (3.0, -0.7, 0.1),
    )
    encoding = Encoding(background_hash=background.hash)
    tasks = (CellTypeAnnotation(n_genes=8), CellGeneration(n_genes=11), response)
    settings = ModelSettings(
        version="0", tasks={t.name: asdict(t) for t in tasks}, encoding=encoding.model_dump(), n_expressed=12, labels=LABELS,
        label_share=SHARES, conditions={"cell_type": LABELS, "tissue": ("blood", "skin"), "age": ("30",)},
        perturbation=PerturbationSettings(
            perturbation_key="drug", control="DMSO", context_keys=("ifn",), library=tuple(p.to_dict() for p in DRUGS),
            delta_rule=rule.to_dict() if target == "delta" else None,
        ),
    )  # fmt: skip
    decoder = RankDecoder(
        model="log_rank", vocabulary=vocabulary, encoding=encoding, background=background, normalised_from="counts",
        median_n_expressed=12, n_cells=100, intercept=3.0, slope=-1.0,
    )  # fmt: skip
    return CellLM(tiny_transformer(len(tokens), seed=seed), tokens, background, settings, decoder=decoder)


def cells_of(model: CellLM, n: int = 6, *, seed: int = 0, longest: int = 1000) -> CellSentences:
    """Return random control sentences of the model's vocabulary, of 0 to ``longest`` (at most all) genes."""
    rng = np.random.default_rng([seed, n])
    size = len(model.vocabulary)
    lists = [rng.permutation(size)[: rng.integers(0, min(size, longest) + 1)] for _ in range(n)]
    obs = pd.DataFrame({"ifn": rng.choice(CONTEXTS, n), "donor": "d1"}, index=[f"cell{i}" for i in range(n)])
    counts = np.array([len(row) for row in lists]) + 5
    return CellSentences.from_lists(lists, model.vocabulary, obs=obs, n_expressed=counts, background=model.background)


def full_log_probabilities(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Return log p(next token | the tokens so far) after each of ``ids``, (T, V), by one ordinary forward pass."""
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].double(), dim=-1)
