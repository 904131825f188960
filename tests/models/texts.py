"""Tiny checkpoints that read words: five architectures with random weights, tokenizers trained here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from c2s.cells.genes import GeneVocabulary
from c2s.sentences.corpus import CellSentences
from c2s.tasks import TASKS
from c2s.tasks.wording import render_text

SYMBOLS = (
    "CD3D",
    "CD3E",
    "CD3",
    "CD79A",
    "MS4A1",
    "HLA-DRA",
    "HLA-DRB1",
    "MT-CO1",
    "MT",
    "LYZ",
    "S100A8",
    "NKG7",
    "GNLY",
    "IL7R",
)
VOCABULARY = GeneVocabulary(SYMBOLS + tuple(f"GENE{i}" for i in range(26)))
LABELS = ("B cell", "CD14+ monocyte", "natural killer cell", "T cell")


def cells(n: int = 7, *, seed: int = 0, longest: int = 30) -> CellSentences:
    """Return random sentences of 0 to ``longest`` genes."""
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(len(VOCABULARY))[: rng.integers(0, longest + 1)] for _ in range(n)]
    obs = pd.DataFrame({"organism": "human", "kind": rng.choice(LABELS, n)}, index=[f"c{i}" for i in range(n)])
    return CellSentences.from_lists(lists, VOCABULARY, obs=obs)


def training_texts() -> list[str]:
    task, sentences = TASKS["cell_type_annotation"](n_genes=30, wording=0), cells(20, seed=9)
    texts = [render_text(task.prompt(sentences, i), VOCABULARY.symbols, task.style) for i in range(20)]
    return [*texts, *LABELS, " ".join(VOCABULARY.symbols)]


def byte_level(*, add_prefix_space: bool = False, front: bool = False) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, as of GPT-2, Pythia, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|end|>", "<|begin|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=specials,
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    if front:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|begin|>" if front else None
    )


def metaspace() -> PreTrainedTokenizerFast:
    """Return a unigram tokenizer with metaspace and byte fallback, as of Llama 2 and Gemma."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>", "<pad>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def transformer(family: str, n_tokens: int, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Return a model of width 32 and two layers; large initial weights make its answers differ from prompt to prompt."""
    sizes = {
        "vocab_size": n_tokens, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 1024, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    configs = {
        "gpt_neox": lambda: GPTNeoXConfig(**sizes | changes),
        "gemma2": lambda: Gemma2Config(**sizes | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64} | changes),
        "llama": lambda: LlamaConfig(**sizes | {"num_key_value_heads": 2} | changes),
        "qwen3": lambda: Qwen3Config(**sizes | {"num_key_value_heads": 2, "head_dim": 8} | changes),
        "gpt2": lambda: GPT2Config(
            vocab_size=n_tokens, n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3,
            bos_token_id=None, eos_token_id=None, **changes,
        ),
    }  # fmt: skip
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(configs[family]()).eval()


FAMILIES = ("gpt_neox", "gemma2", "llama", "qwen3", "gpt2")
