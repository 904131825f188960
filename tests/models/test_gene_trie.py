"""Genes spelled by tokenizers of several kinds, drawn under the constraint, and read back from their text."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from benchmarks.constraint.drawn import faults, random_answers
from benchmarks.constraint.names import invented_names
from benchmarks.constraint.spelling import KINDS, byte_bpe, sentences, words
from c2s.cells.genes import GeneVocabulary
from c2s.engines.trie_constraint import TrieConstraint
from c2s.errors import ConfigError, DataError, ModelError
from c2s.models.constrained import TrieLogits
from c2s.models.gene_trie import gene_constraint, gene_trie
from c2s.tasks.gene_answers import read_genes
from c2s.tasks.wording import SentenceStyle

NAMES = (
    "CD3", "CD3D", "CD3E", "CD3EAP", "MT", "MT-CO1", "MT-CO2", "MT-CO", "TBCE", "TBCE.1", "U1", "U1.1", "U1.1.2", "HLA-A",
    "HLA-DRB1", "A", "AB", "ABC", "B", "BC", "C", "7SK", "C1orf112", "NKX2-5", "T", "IL7R", "IL7", "RP11-34P13.7",
    *(f"GENE{i}" for i in range(60)),
)  # fmt: skip
VOCABULARY = GeneVocabulary(NAMES)
TEXTS = sentences(NAMES, 400, 30)
TRAINED = {name: kind(TEXTS, 330) for name, kind in KINDS.items()} | {"words": words(TEXTS, 300)}
trained = pytest.mark.parametrize("tokenizer", TRAINED.values(), ids=TRAINED)


@trained
def test_a_sentence_is_spelled_as_the_tokenizer_spells_it(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        trie = gene_trie(tokenizer, NAMES)
    assert not caplog.records
    rng = np.random.default_rng(0)
    for _ in range(50):
        genes = rng.permutation(len(NAMES))[: rng.integers(1, 30)]
        ours = [*trie.spelling(genes[0], trie.head), *(token for i in genes[1:] for token in trie.spelling(i))]
        assert ours == tokenizer(" ".join(NAMES[i] for i in genes), add_special_tokens=False)["input_ids"]


@trained
def test_drawn_sentences_are_read_back_and_hold_no_gene_twice(tokenizer):
    constraint = gene_constraint(tokenizer, NAMES, n_genes=len(NAMES), min_genes=1)
    found = faults(random_answers(constraint, 300, seed=1), tokenizer, VOCABULARY, SentenceStyle())
    assert (found["answers"], found["invalid"], found["repeated"]) == (300, 0, 0)
    assert 2 < found["genes"] / 300 < len(NAMES)


@trained
def test_every_gene_is_allowed_at_every_place(tokenizer):
    """Prefixes of other genes too, at the head of a sentence, within it and at its end."""
    constraint = gene_constraint(tokenizer, NAMES, n_genes=3, min_genes=3)
    trie, order = constraint.trie, np.random.default_rng(3).permutation(len(NAMES))
    stop = constraint.segments[0].stop
    for turn in range(len(NAMES)):
        one, two, three = order[turn], order[turn - 1], order[turn - 2]
        ids = [*trie.spelling(one, trie.head), *trie.spelling(two), *trie.spelling(three), stop, constraint.pad]
        assert constraint.sequence(torch.tensor([ids]))[0, torch.arange(len(ids)), ids].all()
        text = tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
        assert read_genes(text, VOCABULARY).tolist() == [one, two, three]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ten_thousand_sentences_of_a_large_vocabulary(kind):
    names = invented_names(6000)
    tokenizer = kind(sentences(names, 300, 100), 1200)
    constraint = gene_constraint(tokenizer, names, n_genes=40)
    found = faults(random_answers(constraint, 10_000), tokenizer, GeneVocabulary(names), SentenceStyle())
    assert (found["answers"], found["invalid"], found["repeated"]) == (10_000, 0, 0)


@pytest.mark.parametrize(
    "style", [SentenceStyle(", ", stop=";"), SentenceStyle(stop=""), SentenceStyle(upper=True)], ids=["commas", "no stop", "upper"]
)  # fmt: skip
def test_other_styles(style):
    names = tuple("C1ORF112" if style.upper and name == "C1orf112" else name for name in NAMES)
    tokenizer = byte_bpe([text.replace(" ", style.delimiter)[:-1] + style.stop for text in TEXTS], 330)
    constraint = gene_constraint(tokenizer, NAMES, style, n_genes=9)
    for answer in random_answers(constraint, 50):
        text = tokenizer.decode(answer)
        if style.stop:
            assert len(read_genes(text, GeneVocabulary(names), style)) <= 9
        else:
            assert set(text.split(" ")) <= set(names)


def tiny_neox(n_tokens):
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=n_tokens, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, initializer_range=1.0, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval()


@pytest.fixture(scope="module")
def asked():
    """Return a tokenizer, an untrained GPT-NeoX and prompts of different lengths, padded on the left."""
    tokenizer = TRAINED["byte-level BPE"]
    inputs = tokenizer(["A", "MT-CO1 A B C T", "GENE3 CD3E"] * 3, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    return tokenizer, tiny_neox(len(tokenizer) + 6), inputs  # models often have more tokens than their tokenizer


def generate(asked, constraint, logits, **how):
    _, model, inputs = asked
    torch.manual_seed(1)
    return model.generate(
        **inputs, max_new_tokens=constraint.max_length + 1, eos_token_id=constraint.pad, pad_token_id=constraint.pad,
        logits_processor=[logits], return_dict_in_generate=True, output_scores=True, output_logits=True, **how,
    )  # fmt: skip


def test_generate_draws_from_the_logits_masked_and_nothing_else(asked):
    """Twice with one object; what rows are drawn from at each step is the model's logits where ``step`` allows."""
    tokenizer, _, inputs = asked
    constraint = gene_constraint(tokenizer, NAMES, n_genes=8, min_genes=2)
    logits = TrieLogits(constraint, inputs["input_ids"].shape[1])
    for _ in range(2):
        out = generate(asked, constraint, logits, do_sample=True, top_k=0)
        answers = out.sequences[:, inputs["input_ids"].shape[1] :]
        for t, (drawn_from, raw) in enumerate(zip(out.scores, out.logits, strict=True)):
            allowed = torch.zeros_like(raw, dtype=torch.bool)
            allowed[:, : constraint.n_tokens] = constraint.step(answers[:, :t])
            assert torch.equal(drawn_from, raw.masked_fill(~allowed, -torch.inf))
        for answer in answers:
            assert 2 <= len(read_genes(tokenizer.decode(answer, skip_special_tokens=True), VOCABULARY)) <= 8


def test_beams_are_followed_when_they_change_places(asked):
    tokenizer, _, inputs = asked
    constraint = gene_constraint(tokenizer, NAMES, n_genes=5, min_genes=3)
    logits = TrieLogits(constraint, inputs["input_ids"].shape[1])
    out = generate(asked, constraint, logits, num_beams=4, num_return_sequences=4, do_sample=False)
    texts = tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert len(texts) == 4 * len(inputs["input_ids"])
    assert len(set(texts[:4])) == 4
    for text in texts:
        assert 3 <= len(read_genes(text, VOCABULARY)) <= 5


def test_a_model_with_fewer_tokens_is_refused():
    constraint = gene_constraint(TRAINED["words"], NAMES, n_genes=5)
    with pytest.raises(ModelError, match="the model has 7 tokens, the constraint"):
        TrieLogits(constraint, 0)(torch.empty(2, 0, dtype=torch.long), torch.zeros(2, 7))


def test_names_that_the_tokenizer_cannot_write_are_refused():
    with pytest.raises(ModelError, match="cannot spell 1 of 3 genes .* ' Ωmega'"):
        gene_trie(TRAINED["Unigram with metaspace"], ("CD3", "Ωmega", "CD3D"))
    with pytest.raises(DataError, match="hold the delimiter ' '"):
        gene_trie(TRAINED["words"], ("CD3", "HLA A"))
    with pytest.raises(DataError, match="genes 'Cd3' and 'CD3' are the same tokens"):
        gene_trie(TRAINED["byte-level BPE"], ("A", "Cd3", "CD3"), SentenceStyle(upper=True))


def test_a_delimiter_that_is_also_the_stop_is_refused():
    with pytest.raises(ConfigError, match="the stop .* begins an item"):
        gene_constraint(TRAINED["byte-level BPE"], ("A", "B"), SentenceStyle("."), n_genes=2)


def test_a_stop_of_several_tokens_and_a_tokenizer_without_an_end_are_refused():
    tokenizer = byte_bpe(TEXTS, 300)
    with pytest.raises(ModelError, match="no single token for the stop ' THE END'"):
        gene_constraint(tokenizer, NAMES, SentenceStyle(stop=" THE END"), n_genes=2)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        gene_constraint(tokenizer, NAMES, n_genes=2)


def test_the_lead_belongs_to_the_first_gene():
    trie = gene_trie(TRAINED["byte-level BPE"], NAMES, lead=" ")
    assert all(trie.spelling(i, trie.head) == trie.spelling(i) for i in range(len(NAMES)))


def test_what_follows_a_merge_across_genes_is_warned_of(caplog):
    """A tokenizer that does not split at the delimiter merges across it, and the text is right even so."""
    from tokenizers import pre_tokenizers

    tokenizer = byte_bpe(TEXTS, 330)
    texts = [text.replace(" ", ",") for text in TEXTS]
    split = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.backend_tokenizer.pre_tokenizer = split
    tokenizer = tokenizer.train_new_from_iterator(texts, 360)
    names = tuple(f"GENE{i}" for i in range(40))
    style = SentenceStyle(",")
    with caplog.at_level(logging.WARNING):
        constraint = gene_constraint(tokenizer, names, style, n_genes=5)
    assert isinstance(constraint, TrieConstraint)
    assert "would spell" in caplog.text
    for answer in random_answers(constraint, 30):
        assert len(read_genes(tokenizer.decode(answer), GeneVocabulary(names), style)) <= 5
