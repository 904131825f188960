"""Checkpoints that read words: loaded from folders, asked for labels, embedded, explained; against ordinary forward passes."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch

import c2s
from c2s.errors import ArtefactError, ConfigError, MissingDependencyError
from c2s.models.embedding import layers_of
from c2s.models.text_lm import TextLM
from c2s.tasks import TASKS
from c2s.tasks.prompt_set import PromptSet
from c2s.tasks.wording import render_text
from tests.models.texts import FAMILIES, LABELS, VOCABULARY, byte_level, cells, metaspace, transformer
from tests.models.untrained import full_log_probabilities


@pytest.fixture(scope="module")
def bpe():
    return byte_level()


def model_of(family, tokenizer, **settings):
    return TextLM(transformer(family, len(tokenizer)), tokenizer, **{"n_genes": 25, **settings})


def saved(folder, family="gpt_neox", tokenizer=None):
    tokenizer = tokenizer or byte_level()
    transformer(family, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def expected_scores(model, sentences, *, wording=0, front=()):
    """Log-likelihoods by one forward pass for each cell and label, tokens of prompt and answer made apart."""
    task = TASKS["cell_type_annotation"](n_genes=25, wording=wording)
    tokenizer, symbols = model.tokens.tokenizer, sentences.vocabulary.symbols
    found = np.empty((len(sentences), len(LABELS)))
    for i in range(len(sentences)):
        prompt = render_text(task.prompt(sentences, i, fields={"organism": "human"}), symbols, task.style)
        ids = [*front, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        for k, label in enumerate(LABELS):
            answer = render_text(task.answer(label), symbols, task.style)
            tail = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            log_p = full_log_probabilities(model.model, [*ids, *tail])
            found[i, k] = sum(float(log_p[len(ids) - 1 + j, token]) for j, token in enumerate(tail))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_scored_as_by_full_passes(family, bpe):
    model, sentences = model_of(family, bpe), cells()
    table = model.annotate(sentences, labels=LABELS, length_correction=False)
    expected = expected_scores(model, sentences)
    probability = np.exp(expected - expected.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table.filter(like="p(").to_numpy(), probability, atol=2e-4)
    assert table.index.tolist() == sentences.obs.index.tolist()
    one_by_one = model.annotate(sentences, labels=LABELS, length_correction=False, batch_size=1)
    np.testing.assert_allclose(one_by_one["probability"], table["probability"], atol=1e-5)


@pytest.mark.parametrize("tokenizer", [byte_level(front=True), metaspace()], ids=["begin", "metaspace"])
def test_what_a_tokenizer_puts_in_front_stands_there(tokenizer):
    model, sentences = model_of("llama", tokenizer), cells(3)
    expected = expected_scores(model, sentences, front=(1,))
    table = model.annotate(sentences, labels=LABELS, length_correction=False)
    order = np.array(LABELS)[expected.argmax(axis=1)]
    assert table["label"].tolist() == order.tolist()


def test_corrections_for_length_and_prior(bpe):
    model, sentences = model_of("gpt_neox", bpe), cells()
    raw = expected_scores(model, sentences)
    lengths = np.array([len(each) for each in model.label_tokens(LABELS, VOCABULARY)])
    assert len(set(lengths)) > 1

    def shares(scores):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    corrected = model.annotate(sentences, labels=LABELS)
    np.testing.assert_allclose(corrected.filter(like="p("), shares(raw / lengths), atol=2e-4)
    prior = dict(zip(LABELS, (0.1, 0.2, 0.3, 0.4)))
    weighted = model.annotate(sentences, labels=LABELS, prior=prior)
    np.testing.assert_allclose(
        weighted.filter(like="p("), shares(raw / lengths + np.log(list(prior.values()))), atol=2e-4
    )
    bare = sentences[:1].with_obs(pd.DataFrame(index=["x"]))
    empty = type(bare).from_lists([[]], VOCABULARY)
    free = model.annotate(empty, labels=LABELS, prior="content_free")
    np.testing.assert_allclose(free.filter(like="p("), 0.25, atol=1e-5)  # nothing is left of a cell of nothing
    with pytest.raises(ConfigError, match="probability above 0"):
        model.annotate(sentences, labels=LABELS, prior={"B cell": 1.0})
    for wrong in (["B cell"], ["B cell", "B cell"], ["B cell", " "]):
        with pytest.raises(ConfigError, match="at least two"):
            model.annotate(sentences, labels=wrong)
    with pytest.raises(ConfigError, match="prior='training'"):
        model.annotate(sentences, labels=LABELS, prior="training")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("layer", [None, 0, 1, -1])
def test_vectors_are_hidden_states_of_one_cell_alone(family, pooling, layer, bpe):
    model, sentences = model_of(family, bpe), cells()
    vectors = model.embed(sentences, layer=layer, pooling=pooling)
    assert vectors.dtype == np.float32
    alone = np.concatenate(
        [model.embed(sentences[i : i + 1], layer=layer, pooling=pooling) for i in range(len(sentences))]
    )
    np.testing.assert_allclose(vectors, alone, rtol=1e-5, atol=1e-5)
    for i, passage in enumerate(model.passages(sentences)):
        last = []  # transformers' own list gives the last layer normalised
        handle = layers_of(model.model)[-1].register_forward_hook(lambda _, given, out, last=last: last.append(out))
        with torch.inference_mode():
            out = model.model(input_ids=torch.tensor([list(passage.ids)]), output_hidden_states=True)
        handle.remove()
        behind = last[0] if isinstance(last[0], torch.Tensor) else last[0][0]
        hidden = behind[0] if layer == -1 else out.hidden_states[-1 if layer is None else layer][0]
        span = (
            slice(len(passage) - 1, len(passage))
            if pooling == "last" or passage.stop <= passage.start
            else passage.place
        )
        np.testing.assert_allclose(vectors[i], hidden[span].mean(0).numpy(), rtol=1e-5, atol=1e-5)


def test_the_places_of_genes(bpe):
    for tokenizer in (bpe, metaspace(), byte_level(front=True)):
        model, sentences = model_of("llama", tokenizer), cells()
        for i in range(len(sentences)):
            ((passage, places),) = model.gene_passages([sentences.row(i)], VOCABULARY)
            spelt = [tokenizer.decode(list(passage.ids)[place]).strip() for place in places]
            genes = sentences.genes(i)[:25]
            if tokenizer is bpe:
                assert [each.strip(". ") for each in spelt] == genes
            assert all(gene in each for each, gene in zip(spelt, genes, strict=True))


def test_layers_that_are_not_there(bpe):
    model = model_of("gpt_neox", bpe)
    for layer in (3, -3):
        with pytest.raises(ConfigError, match="the model has 2 layers"):
            model.embed(cells(2), layer=layer)
    with pytest.raises(ConfigError, match="pooling='max'"):
        model.embed(cells(2), pooling="max")


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_attributions(family, bpe):
    model, sentences = model_of(family, bpe), cells(3, seed=2)
    row = int(sentences.lengths.argmax())
    table = model.attribute(sentences, row, label="B cell", against="T cell", method="leave_one_out")
    assert table.index.tolist() == sentences.genes(row)[:25]
    answers = model.label_tokens(["B cell", "T cell"], VOCABULARY)

    def difference(genes):
        ((passage, _),) = model.gene_passages([genes], VOCABULARY)
        scores = []
        for answer in answers:
            log_p = full_log_probabilities(model.model, [*passage.ids, *answer])
            scores.append(sum(float(log_p[len(passage) - 1 + j, token]) for j, token in enumerate(answer)))
        return scores[0] - scores[1]

    genes = sentences.row(row)[:25]
    expected = [
        difference(sentences.row(row)) - difference(np.delete(sentences.row(row), i)) for i in range(len(genes))
    ]
    np.testing.assert_allclose(table["attribution"], expected, atol=2e-4)


def test_gradients_are_those_of_finite_differences(bpe):
    model, sentences = model_of("gpt_neox", bpe), cells(3, seed=2)
    model.model.double()
    row = int(sentences.lengths.argmax())
    table = model.attribute(sentences, row, label="B cell")
    ((passage, places),) = model.gene_passages([sentences.row(row)], VOCABULARY)
    (answer,) = model.label_tokens(["B cell"], VOCABULARY)
    ids = torch.tensor([[*passage.ids, *answer]])
    embedded = model.model.get_input_embeddings()(ids).detach()

    def log_p(scale, place):
        moved = embedded.clone()
        moved[0, place] *= scale
        with torch.inference_mode():
            out = torch.log_softmax(model.model(inputs_embeds=moved).logits[0], dim=-1)
        return sum(float(out[len(passage) - 1 + j, token]) for j, token in enumerate(answer))

    for k in (0, 3, len(places) - 1):
        slope = (log_p(1 + 1e-4, places[k]) - log_p(1 - 1e-4, places[k])) / 2e-4
        assert table["attribution"].iloc[k] == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_attributions_of_nothing_are_refused(bpe):
    model = model_of("gpt_neox", bpe)
    sentences = type(cells()).from_lists([[], [1, 2]], VOCABULARY)
    with pytest.raises(c2s.errors.DataError, match="is empty"):
        model.attribute(sentences, 0, label="B cell")
    with pytest.raises(ConfigError, match="method='shap'"):
        model.attribute(sentences, 1, label="B cell", method="shap")
    with pytest.raises(ConfigError, match="both 'B cell'"):
        model.attribute(sentences, 1, label="B cell", against="B cell")


def test_a_folder_is_loaded_as_it_is(tmp_path):
    model = c2s.load_model(saved(tmp_path), dtype="float32", n_genes=25)
    assert isinstance(model, TextLM)
    assert "gpt_neox" in repr(model)
    straight = model_of("gpt_neox", model.tokens.tokenizer)
    np.testing.assert_array_equal(model.embed(cells()), straight.embed(cells()))
    half = c2s.load_model(tmp_path, dtype="bfloat16", n_genes=25)
    assert half.model.dtype == torch.bfloat16
    assert half.embed(cells()).dtype == np.float32


def test_adapters_are_merged(tmp_path):
    from peft import LoraConfig, get_peft_model

    base = saved(tmp_path / "base")
    model = c2s.load_model(base).model
    torch.manual_seed(3)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["query_key_value"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "lora")
    expected = TextLM(tuned.merge_and_unload(), byte_level(), n_genes=25).embed(cells())
    for found in (
        c2s.load_model(base, adapter=tmp_path / "lora", n_genes=25),
        c2s.load_model(tmp_path / "lora", n_genes=25),
    ):
        np.testing.assert_allclose(found.embed(cells()), expected, atol=1e-6)
    assert np.abs(expected - c2s.load_model(base, n_genes=25).embed(cells())).max() > 1e-3
    with pytest.raises(ConfigError, match="is an adapter itself"):
        c2s.load_model(tmp_path / "lora", adapter=tmp_path / "lora")


def test_what_cannot_be_loaded(tmp_path, monkeypatch):
    with pytest.raises(ArtefactError, match="no folder vandijklab/nothing, and no model of that name.*download=True"):
        c2s.load_model("vandijklab/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match="holds no config.json"):
        c2s.load_model(tmp_path / "empty")
    folder = saved(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtefactError, match="may be truncated"):
        c2s.load_model(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(ArtefactError, match="pickled weights only"):
        c2s.load_model(folder)
    with pytest.raises(ConfigError, match="gpt"):
        c2s.load_model(folder, prompts="gpt")
    with pytest.raises(ConfigError, match="give one of them"):
        c2s.load_model(folder, device="cpu", device_map="auto")
    whole = saved(tmp_path / "whole")
    with pytest.raises(MissingDependencyError, match=r"c2s\[quantized\]"):
        c2s.load_model(whole, quantization="4bit")
    with pytest.raises(ConfigError, match="quantization='2bit'"):
        c2s.load_model(whole, quantization="2bit")
    record = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(record | {"model_type": "unheard_of"}))
    with pytest.raises(ArtefactError, match="cannot load the model"):
        c2s.load_model(whole)


def test_what_a_tokenizer_knows_of_genes(bpe):
    coverage = model_of("gpt_neox", bpe).gene_coverage(VOCABULARY)
    assert coverage.index.tolist() == list(VOCABULARY.symbols)
    assert set(coverage["covered"]) <= {"one", "several"}  # bytes spell everything
    assert (coverage.loc[coverage["covered"] == "one", "n_tokens"] == 1).all()
    unigram = model_of("llama", metaspace())
    strange = c2s.GeneVocabulary(("CD3D", "Ωλ7"))
    assert unigram.gene_coverage(strange)["covered"].tolist()[1] == "none"


@pytest.mark.parametrize(
    ("family", "tokenizer"), [("gpt_neox", byte_level()), ("gpt2", byte_level()), ("llama", metaspace())], ids=str
)
def test_generated_cells_hold_known_genes_once(family, tokenizer):
    model = model_of(family, tokenizer)
    cells = model.generate(VOCABULARY, n=70, n_genes=12, min_genes=2, seed=3, cell_type="B cell", organism="human")
    assert len(cells) == 70
    assert cells.lengths.min() >= 2
    assert cells.lengths.max() <= 12
    assert (cells.n_expressed == -1).all()
    assert cells.obs["cell_type"].tolist() == ["B cell"] * 70
    assert len({cells.text(i) for i in range(70)}) > 30
    again = model.generate(VOCABULARY, n=5, n_genes=12, min_genes=2, seed=3, cell_type="B cell", organism="human")
    assert [again.text(i) for i in range(5)] == [cells.text(i) for i in range(5)]
    greedy = model.generate(VOCABULARY, n=3, n_genes=5, temperature=0.0, conditions={"seed": "oak"})
    assert greedy.obs[["condition_seed", "seed"]].iloc[0].tolist() == ["oak", 0]
    assert len({greedy.text(i) for i in range(3)}) == 1


def test_a_condition_the_wording_has_no_place_for_is_refused(bpe, monkeypatch):
    model = model_of("llama", bpe)
    few = PromptSet("cell_generation", "1", ("A cell[ of {cell_type}].\n",), ("{sentence}",))
    monkeypatch.setattr(TASKS["cell_generation"], "prompt_set", few)
    assert len(model.generate(VOCABULARY, n=1, n_genes=2, cell_type="B cell")) == 1
    with pytest.raises(
        ConfigError, match="the prompt says nothing of age, tissue: wording 0 of c2s has no place for it"
    ):
        model.generate(VOCABULARY, n=1, n_genes=2, cell_type="B cell", conditions={"age": "30"}, tissue="blood")


def test_generated_cells_follow_the_masked_distribution(bpe):
    """First genes of many samples against the mask of full passes, renormalised token by token."""
    few = c2s.GeneVocabulary(("CD3", "CD3D", "MT", "MT-CO1"))
    model = model_of("gpt_neox", bpe)
    drawn = model.generate(few, n=4000, n_genes=1, seed=1)
    counts = pd.Series([drawn.genes(i)[0] for i in range(4000)]).value_counts(normalize=True)
    task = TASKS["cell_generation"](n_genes=25, wording=0)
    tokenizer = model.tokens.tokenizer
    prompt = render_text(task.prompt({"organism": "Homo sapiens"}, n_genes=1), few.symbols, task.style)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    endings = {
        g: [
            *tokenizer(g, add_special_tokens=False)["input_ids"],
            tokenizer(".", add_special_tokens=False)["input_ids"][0],
        ]
        for g in few.symbols
    }
    weights = {}
    for gene, tail in endings.items():
        log_p = full_log_probabilities(model.model, [*ids, *tail])
        p = 1.0
        for place, token in enumerate(tail):
            allowed = {
                other[place] for other in endings.values() if other[:place] == tail[:place] and len(other) > place
            }
            probabilities = log_p[len(ids) - 1 + place].exp()
            p *= float(probabilities[token] / probabilities[sorted(allowed)].sum())
        weights[gene] = p
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-6)
    for gene, p in weights.items():
        assert abs(counts.get(gene, 0.0) - p) < 5 * (p * (1 - p) / 4000) ** 0.5 + 1e-3


@pytest.mark.skipif(find_spec("cell2sentence") is None, reason="optional: pip install --no-deps cell2sentence==1.2.0")
def test_genes_that_upper_case_makes_one_are_left_out(bpe, caplog):
    twins = c2s.GeneVocabulary(("C2orf15", "C2ORF15", "Actb", "actB", "CD3D"), "mouse")
    model = model_of("gpt_neox", bpe, prompts="cell2sentence")
    drawn = model.generate(twins, n=200, n_genes=2, cell_type="B cell")
    assert {gene for i in range(200) for gene in drawn.genes(i)} == {"C2ORF15", "CD3D"}
    assert "not generated: Actb, C2orf15, actB" in caplog.text
