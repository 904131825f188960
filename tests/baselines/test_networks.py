"""Network baselines: parity with torch's and transformers' encoders, planted classes, batch-mates, scGPT folders."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from transformers import BertConfig, BertModel

from c2s.baselines.annotation import ANNOTATORS
from c2s.baselines.encoder import EncoderLayer
from c2s.baselines.geneformer_arch import GeneformerNetwork
from c2s.baselines.network import Budget, log_probabilities
from c2s.baselines.tokens import Tokens, binned, leading_tokens
from c2s.errors import ArtefactError, ConfigError, DataError
from tests.baselines.planted import planted

SMALL = {"width": 16, "heads": 2, "layers": 1, "max_len": 40, "learning_rates": (3e-3, 1e-2)}
ROWS = {
    "scgpt_architecture": {**SMALL, "scales": ("bins / 10", "log1p")},
    "geneformer_architecture": SMALL,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells():
    return planted(seed=0), planted(15, seed=1)


@pytest.fixture(scope="module", params=ROWS)
def fitted(request, cells):
    (train, labels), _ = cells
    return ANNOTATORS[request.param](**ROWS[request.param], budget=Budget(steps=160, batch_size=32)).fit(
        train, labels, seed=0
    )


def test_learns_planted_classes(fitted, cells):
    _, (test, truth) = cells
    found = fitted.predict_proba(test)
    assert (found.idxmax(axis=1).to_numpy() == truth).mean() > 0.8  # chance is 0.25
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert len(fitted.search_) == len(fitted._settings()) and fitted.best_step_ <= fitted.steps_ == 160


def test_does_not_depend_on_batch_mates(fitted, cells):
    _, (test, _) = cells
    test = test.copy()
    thinned = test.X.toarray()
    thinned[::2, 20:-1] = 0  # short sentences among long ones, so that there is padding
    test.X = sp.csr_matrix(thinned)
    whole = fitted.predict_proba(test)
    alone = pd.concat([fitted.predict_proba(test[i : i + 1]) for i in range(0, test.n_obs, 3)])
    np.testing.assert_allclose(alone, whole.iloc[::3], atol=1e-5)


def test_equal_seeds_give_equal_answers_and_the_global_generator_is_untouched(cells):
    (train, labels), (test, _) = cells
    state = torch.get_rng_state()
    tables = [
        ANNOTATORS["scgpt_architecture"](**SMALL, scales=("log1p",), budget=Budget(steps=10))
        .fit(train, labels, seed=seed)
        .predict_proba(test)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(state, torch.get_rng_state())
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not np.allclose(tables[0], tables[2])


def test_seconds_end_the_training(cells):
    (train, labels), _ = cells
    budget = Budget(steps=10**6, seconds=2.0)
    found = ANNOTATORS["geneformer_architecture"](**SMALL, budget=budget).fit(train, labels, seed=0)
    assert 1 <= found.steps_ < budget.steps


def test_layer_equals_the_one_of_torch():
    torch.manual_seed(0)
    ours = EncoderLayer(16, 4, 32, dropout=0.0, activation="relu").eval()
    theirs = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True).eval()
    theirs.self_attn.in_proj_weight.data = ours.attention_in.weight.data
    theirs.self_attn.in_proj_bias.data = ours.attention_in.bias.data
    for mine, its in [("attention_out", theirs.self_attn.out_proj), ("up", theirs.linear1), ("down", theirs.linear2),
                      ("norm_attention", theirs.norm1), ("norm_output", theirs.norm2)]:  # fmt: skip
        its.load_state_dict(getattr(ours, mine).state_dict())
    states, seen = torch.randn(3, 7, 16), torch.arange(7) < torch.tensor([[7], [4], [2]])
    wanted = theirs(states, src_key_padding_mask=~seen)
    torch.testing.assert_close(ours(states, seen)[seen], wanted[seen], atol=1e-5, rtol=1e-5)


def test_geneformer_network_equals_bert():
    torch.manual_seed(1)
    bert = BertModel(
        BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
                   max_position_embeddings=12, attn_implementation="eager")
    ).eval()  # fmt: skip
    ours = GeneformerNetwork(
        30, 3, width=16, heads=4, hidden=32, layers=2, max_len=12, dropout=0.0, pooling="cls"
    ).eval()  # fmt: skip
    ours.genes.weight.data = bert.embeddings.word_embeddings.weight.data
    ours.positions.weight.data = (
        bert.embeddings.position_embeddings.weight.data + bert.embeddings.token_type_embeddings.weight[0].data
    )
    ours.norm.load_state_dict(bert.embeddings.LayerNorm.state_dict())
    ours.pool.load_state_dict(bert.pooler.dense.state_dict())
    for mine, its in zip(ours.layers, bert.encoder.layer):
        maps = [getattr(its.attention.self, name) for name in ("query", "key", "value")]
        mine.attention_in.weight.data = torch.cat([each.weight.data for each in maps])
        mine.attention_in.bias.data = torch.cat([each.bias.data for each in maps])
        mine.attention_out.load_state_dict(its.attention.output.dense.state_dict())
        mine.norm_attention.load_state_dict(its.attention.output.LayerNorm.state_dict())
        mine.up.load_state_dict(its.intermediate.dense.state_dict())
        mine.down.load_state_dict(its.output.dense.state_dict())
        mine.norm_output.load_state_dict(its.output.LayerNorm.state_dict())
    ids, seen = torch.randint(1, 30, (3, 9)), torch.arange(9) < torch.tensor([[9], [5], [1]])
    wanted = bert(input_ids=ids, attention_mask=seen.long()).pooler_output
    torch.testing.assert_close(ours.embed(ids, seen), wanted, atol=1e-5, rtol=1e-5)


def test_tokens_are_the_leading_genes_in_order():
    matrix = sp.csr_matrix(np.array([[3.0, 0, 1, 3], [0, 0, 0, 2], [0, 0, 0, 0]]))
    tokens = leading_tokens(matrix, matrix.data, 10 * matrix.data, np.arange(4) + 2, max_len=3, cls=1, cls_value=-2)
    assert tokens.ids.tolist() == [1, 2, 5, 1, 5, 1]
    assert tokens.values.tolist() == [-2, 30, 30, -2, 20, -2]
    ids, _, seen = tokens.batch(np.array([1, 0]))
    assert ids.tolist() == [[1, 5, 0], [1, 2, 5]] and seen.tolist() == [[True, True, False], [True] * 3]


def test_bins_are_quantiles_of_the_cell():
    matrix = sp.csr_matrix(np.array([[1.0, 2, 3, 4], [5, 5, 0, 0], [0, 0, 0, 0]]))
    assert binned(matrix, 51).tolist() == [13, 25, 38, 50, 50, 50]


def scgpt_checkpoint(folder, genes, *, flash, width=16, layers=2, hidden=24):
    """Write a folder with the names and shapes of scGPT's files, and random weights."""
    generator = torch.Generator().manual_seed(0)
    names = {"<pad>": 0, "<cls>": 1, "<eoc>": 2, **{gene: i + 3 for i, gene in enumerate(genes)}}
    shapes = {"encoder.embedding.weight": (len(names), width), "flag_encoder.weight": (2, width),
              "value_encoder.linear1.weight": (width, 1), "value_encoder.linear1.bias": (width,),
              "value_encoder.linear2.weight": (width, width), "value_encoder.linear2.bias": (width,),
              "decoder.fc.0.weight": (width, width), "decoder.fc.0.bias": (width,),
              "cls_decoder.out_layer.weight": (5, width), "mvc_decoder.gene2query.weight": (width, width)}  # fmt: skip
    for norm in ("encoder.enc_norm", "value_encoder.norm"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for i in range(layers):
        at = f"transformer_encoder.layers.{i}."
        into = "self_attn.Wqkv." if flash else "self_attn.in_proj_"
        shapes |= {f"{at}{into}weight": (3 * width, width), f"{at}{into}bias": (3 * width,)}
        for part, (rows, columns) in {"self_attn.out_proj": (width, width), "linear1": (hidden, width),
                                      "linear2": (width, hidden)}.items():  # fmt: skip
            shapes |= {f"{at}{part}.weight": (rows, columns), f"{at}{part}.bias": (rows,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"{at}{norm}.weight": (width,), f"{at}{norm}.bias": (width,)}
    weights = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}
    for name in weights:
        if "norm" in name and name.endswith("weight"):
            weights[name] += 1
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(names))
    (folder / "args.json").write_text(
        json.dumps({"embsize": width, "nheads": 4, "d_hid": hidden, "nlayers": layers, "n_bins": 51, "pad_value": -2,
                    "pad_token": "<pad>", "dropout": 0.2})
    )  # fmt: skip
    torch.save(weights, folder / "best_model.pt")
    return weights, names


@pytest.mark.parametrize("flash", [False, True])
def test_folder_embeds_as_torch_does_with_the_same_weights(tmp_path, cells, flash):
    (train, labels), (test, _) = cells
    weights, names = scgpt_checkpoint(tmp_path / "model", train.var_names[:60], flash=flash)
    row = ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "model").fit(train, labels, seed=0)
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True), 2, enable_nested_tensor=False
    ).eval()  # fmt: skip
    start = "transformer_encoder."
    theirs.load_state_dict(
        {k.removeprefix(start).replace("Wqkv.", "in_proj_"): v for k, v in weights.items() if k.startswith(start)}
    )

    def norm(x, name):
        return nn.functional.layer_norm(x, (16,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    tokens = row._tokens(test.X[:3], {})
    assert set(tokens.ids[:1]) == {names["<cls>"]} and tokens.values[0] == -2
    ids, values, seen = tokens.batch(np.arange(3))
    inner = values[..., None] @ weights["value_encoder.linear1.weight"].T + weights["value_encoder.linear1.bias"]
    beside = inner.relu() @ weights["value_encoder.linear2.weight"].T + weights["value_encoder.linear2.bias"]
    states = norm(weights["encoder.embedding.weight"][ids], "encoder.enc_norm") + norm(beside, "value_encoder.norm")
    wanted = theirs(states, src_key_padding_mask=~seen)[:, 0]
    found = row._frozen.embed(ids, values, seen)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_folder_rows_are_named_apart_and_learn(tmp_path, cells):
    (train, labels), (test, truth) = cells
    scgpt_checkpoint(tmp_path / "model", train.var_names, flash=True)
    probe = ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "model").fit(train, labels, seed=0)
    tuned = ANNOTATORS["scgpt_folder_fine_tuned"](
        folder=tmp_path / "model", learning_rates=(1e-2,), budget=Budget(steps=240, batch_size=32)
    ).fit(train, labels, seed=0)  # fmt: skip
    assert "frozen + probe" in probe.name and "fine-tuned" in tuned.name
    shares = [(row.predict_proba(test).idxmax(axis=1).to_numpy() == truth).mean() for row in (probe, tuned)]
    assert min(shares) > 0.4  # chance is 0.25, and these weights know nothing of genes


def test_folder_refusals(tmp_path, cells):
    (train, labels), _ = cells
    with pytest.raises(ArtefactError, match=r"vocab\.json"):
        ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "none")
    scgpt_checkpoint(tmp_path / "other", ["NOT", "HERE"], flash=False)
    with pytest.raises(DataError, match="vocabulary of the checkpoint"):
        ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "other").fit(train, labels, seed=0)
    weights, _ = scgpt_checkpoint(tmp_path / "short", train.var_names, flash=False)
    weights.pop("transformer_encoder.layers.1.linear1.weight")
    torch.save(weights, tmp_path / "short" / "best_model.pt")
    with pytest.raises(ArtefactError, match=r"layers\.1\.up\.weight"):
        ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "short").fit(train, labels, seed=0)
    (tmp_path / "short" / "best_model.pt").write_bytes(b"no weights")
    with pytest.raises(ArtefactError, match="cannot be read as weights"):
        ANNOTATORS["scgpt_folder_frozen_probe"](folder=tmp_path / "short")


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="multiple of heads"):
        ANNOTATORS["scgpt_architecture"](width=10, heads=4)
    with pytest.raises(ConfigError, match="above 0"):
        Budget(seconds=0)


def test_rows_not_asked_for_stay_unknown():
    tokens = Tokens(np.array([1, 2, 1]), np.zeros(3, np.float32), np.array([0, 2, 3]))
    network = GeneformerNetwork(3, 2, width=4, heads=1, hidden=4, layers=1, max_len=4, dropout=0.0, pooling="mean")
    found = log_probabilities(network, tokens, np.array([1]))
    assert np.isnan(found[0]).all() and np.isclose(np.exp(found[1]).sum(), 1)
