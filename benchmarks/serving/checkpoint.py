"""The checkpoint that both sides run: a GPT-NeoX of 7 M random weights with a byte-level BPE tokenizer, and its twin with gene tokens."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel, PreTrainedTokenizerFast

import c2s
from c2s.models.cell_lm import CellLM
from c2s.models.settings import ModelSettings
from c2s.models.tokenizer import PartTokenizer, build_tokenizer
from c2s.sentences.decode import RankDecoder
from c2s.tasks import TASKS
from c2s.tasks.wording import render_text

N_GENES = 200
PIECES = 4000  # of the tokenizer
WIDTH, LAYERS, HEADS = 256, 6, 4  # heads of 64, as in Pythia


def transformer(n_tokens: int) -> PreTrainedModel:
    """Return the GPT-NeoX."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=n_tokens, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=2048, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def write_checkpoint(cells: ad.AnnData, folder: Path) -> None:
    """Write model and tokenizer, the tokenizer trained on prompts of ``cells`` in upper case, as the reference writes them."""
    sentences = c2s.encode(cells[:500].copy(), n_genes=N_GENES)
    task = TASKS["cell_type_annotation"](n_genes=N_GENES, wording=0)
    texts = [render_text(task.prompt(sentences, i), sentences.vocabulary.symbols, task.style) for i in range(500)]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner, eos_token="<|endoftext|>", pad_token="<|endoftext|>", padding_side="left"
    )
    transformer(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def gene_token_twin(cells: ad.AnnData, labels: list[str]) -> CellLM:
    """Return a model of the same layers and width in which a gene is a token."""
    background = c2s.Background.fit(cells)
    vocabulary = background.vocabulary
    tokens = PartTokenizer(build_tokenizer(vocabulary, labels), vocabulary)
    settings = ModelSettings(
        tasks={"cell_type_annotation": {"n_genes": N_GENES}},
        labels=tuple(labels),
        label_share=(1 / len(labels),) * len(labels),
    )
    decoder = RankDecoder.fit(cells[:200].copy(), model="log_rank", background=background)
    return CellLM(transformer(len(tokens)), tokens, background, settings, decoder=decoder)
