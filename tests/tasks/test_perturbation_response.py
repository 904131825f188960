"""The control comes first, targets last; answers are sentences or deltas; moved genes weigh more."""

from __future__ import annotations

import numpy as np
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.cells.library import Perturbation
from c2s.sentences.corpus import CellSentences
from c2s.tasks import Genes, Mark, ParseError, PerturbationResponse

VOCABULARY = GeneVocabulary(tuple("ABCDEFGH"))
IDS = {symbol: i for i, symbol in enumerate(VOCABULARY.symbols)}
DRUG = Perturbation("CX-4945", targets=("C", "CSNK2A1"), mechanism="inhibitor", dose="5 uM", time="24 h")


def plain(parts):
    """Return parts with genes as tuples, marks in angle brackets."""
    return [
        tuple(p.ids.tolist()) if isinstance(p, Genes) else f"<{p.name}>" if isinstance(p, Mark) else p for p in parts
    ]


@pytest.fixture
def sentences():
    return CellSentences.from_lists([[0, 1, 2, 3], [3, 2, 1, 0], [4, 5, 6]], VOCABULARY)


def test_the_prefix_is_the_control_alone_so_that_it_serves_a_library():
    assert plain(PerturbationResponse(n_genes=3).prefix(np.arange(6, dtype=np.int32))) == ["<cell>", (0, 1, 2)]


def test_the_suffix_names_context_perturbation_and_targets():
    task = PerturbationResponse()
    context = {"ifn": "low", "donor": "d1"}
    assert plain(task.suffix(context, DRUG, IDS)) == [
        "<context>", "low", "<context>", "d1", "<perturbation>", "CX-4945", "<mechanism>", "inhibitor", "<dose>", "5 uM",
        "<time>", "24 h", "<targets>", (2,), "CSNK2A1", "<up>",
    ]  # fmt: skip
    assert plain(PerturbationResponse(target="sentence").suffix({}, Perturbation("DMSO"), IDS)) == [
        "<perturbation>", "DMSO", "<sentence>",
    ]  # fmt: skip


def test_a_name_is_left_out_only_where_something_else_says_what_it_is():
    task = PerturbationResponse()
    assert "CX-4945" not in plain(task.suffix({}, DRUG, IDS, show_name=False))
    assert "DMSO" in plain(task.suffix({}, Perturbation("DMSO", dose="1 %"), IDS, show_name=False))
    assert "DMSO" not in plain(task.suffix({}, Perturbation("DMSO", mechanism="solvent"), IDS, show_name=False))


def arguments():
    return {
        "controls": np.array([0, 1]), "treated": np.array([2, 2]), "perturbations": [DRUG, Perturbation("DMSO")],
        "contexts": [{"ifn": "low"}, {"ifn": "none"}],
    }  # fmt: skip


def test_delta_examples(sentences):
    task = PerturbationResponse(n_genes=2, n_up=2, n_down=1)
    up = [np.array([4, 5, 6], np.int32), np.array([], np.int32)]
    down = [np.array([0, 1], np.int32), np.array([], np.int32)]
    one, other = task.examples(sentences, **arguments(), up=up, down=down)
    assert plain(one.prompt)[:4] == ["<cell>", (0, 1), "<context>", "low"]
    assert plain(one.answer) == [(4, 5), "<down>", (0,), "<end>"]
    assert plain(other.prompt)[:4] == ["<cell>", (3, 2), "<context>", "none"]
    assert plain(other.answer) == [(), "<down>", (), "<end>"]
    assert one.weights is None
    assert [x.tolist() for x in task.parse(one.answer)] == [[4, 5], [0]]


def test_sentence_examples_weigh_genes_of_the_delta(sentences):
    task = PerturbationResponse(target="sentence", n_answer=2, moved_weight=4.0)
    up, down = [np.array([5], np.int32), np.array([], np.int32)], [np.array([0], np.int32), np.array([], np.int32)]
    one, other = task.examples(sentences, **arguments(), up=up, down=down)
    assert plain(one.answer) == [(4, 5), "<end>"]
    assert one.weights.tolist() == [1.0, 4.0]
    assert [x.tolist() for x in task.parse(one.answer)] == [[4, 5]]
    assert set(other.weights.tolist()) == {1.0}
    assert other.weights.dtype == np.float32


def test_name_dropout_hides_that_share_of_names_and_is_seeded(sentences):
    n = 400
    task = PerturbationResponse()
    empty = [np.array([], np.int32)] * n

    def shown(share, seed):
        examples = task.examples(
            sentences, controls=np.zeros(n, int), treated=np.full(n, 2), perturbations=[DRUG] * n, contexts=[{}] * n,
            up=empty, down=empty, name_dropout=share, rng=np.random.default_rng(seed),
        )  # fmt: skip
        return ["CX-4945" in plain(example.prompt) for example in examples]

    assert all(shown(0.0, 0))
    assert 0.62 < np.mean(shown(0.3, 0)) < 0.78
    assert shown(0.3, 1) == shown(0.3, 1) != shown(0.3, 2)


@pytest.mark.parametrize("target", ["delta", "sentence"])
def test_an_answer_to_the_other_form_is_a_parse_error(target):
    delta, sentence = PerturbationResponse(), PerturbationResponse(target="sentence")
    answer = (
        sentence.sentence_answer(np.array([1]))
        if target == "delta"
        else delta.delta_answer(np.array([1]), np.array([2]))
    )
    with pytest.raises(ParseError):
        (delta if target == "delta" else sentence).parse(answer)
