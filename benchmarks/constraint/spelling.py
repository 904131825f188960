"""Tokenizers of three kinds, trained on sentences of genes: how released and other models spell them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def sentences(symbols: Sequence[str], n: int, n_genes: int, *, seed: int = 0) -> list[str]:
    """Return ``n`` sentences of random genes, to train a tokenizer on."""
    rng = np.random.default_rng(seed)
    return [" ".join(symbols[i] for i in rng.permutation(len(symbols))[:n_genes]) + "." for _ in range(n)]


def byte_bpe(texts: Sequence[str], n_tokens: int) -> PreTrainedTokenizerFast:
    """Return the kind of GPT-2 and GPT-NeoX: byte-level BPE in which the first word has no space."""
    return _byte_level(texts, n_tokens, add_prefix_space=False)


def spaced_byte_bpe(texts: Sequence[str], n_tokens: int) -> PreTrainedTokenizerFast:
    """Return byte-level BPE that puts a space before the first word, too."""
    return _byte_level(texts, n_tokens, add_prefix_space=True)


def _byte_level(texts: Sequence[str], n_tokens: int, *, add_prefix_space: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, padding_side="left")


def unigram(texts: Sequence[str], n_tokens: int) -> PreTrainedTokenizerFast:
    """Return the kind of SentencePiece models: pieces chosen by likelihood, spaces written as a sign."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=n_tokens, special_tokens=["<unk>", END], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token="<unk>", padding_side="left"
    )


def words(texts: Sequence[str], n_tokens: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which every word is a token, the full stop another."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(vocab_size=n_tokens, special_tokens=["<unk>", END], show_progress=False)
    tokenizer.train_from_iterator([text.removesuffix(".") + " ." for text in texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token="<unk>", padding_side="left"
    )


KINDS: dict[str, Callable[[Sequence[str], int], PreTrainedTokenizerFast]] = {
    "byte-level BPE": byte_bpe,
    "byte-level BPE with a leading space": spaced_byte_bpe,
    "Unigram with metaspace": unigram,
}
