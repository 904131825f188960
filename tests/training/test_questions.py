"""Questions: every answer is counted again from ``obs`` and the sentences, and the question alone tells nothing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.cells.ontology import CellOntology
from c2s.errors import ConfigError
from c2s.sentences.corpus import CellSentences
from c2s.sentences.markers import MIN_DIFFERENCE, MIN_SHARE
from c2s.tasks import QuestionAnswering, draw_samples
from c2s.training.question_kinds import WORDINGS
from c2s.training.questions import questions

# id → parents; names are the ids' own. X has no term.
PARENTS = {"cell": [], "white": ["cell"], "red": ["cell"], "B": ["white"], "T": ["white"], "CD4": ["T"], "CD8": ["T"]}
IDS = {name: f"CL:{place}" for place, name in enumerate(PARENTS)}
ONTOLOGY = CellOntology.parse(
    "\n".join(
        f"[Term]\nid: {IDS[name]}\nname: {name}\n" + "".join(f"is_a: {IDS[parent]}\n" for parent in parents)
        for name, parents in PARENTS.items()
    )
)
TYPES = ("B", "CD4", "CD8", "T", "red", "X type")
SHARES = (0.1, 0.3, 0.2, 0.1, 0.2, 0.1)
N_CELLS, DEPTH = 800, 6
VOCABULARY = GeneVocabulary(tuple(f"G{i:02d}" for i in range(40)))


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(5)
    donors = rng.integers(4, size=N_CELLS)
    labels = [
        TYPES[rng.choice(6, p=SHARES)] if rng.random() < 0.6 else TYPES[donor] for donor in donors
    ]  # donors differ in what they hold most
    rows = []
    for label in labels:
        own = [gene for gene in range(2 * TYPES.index(label), 2 * TYPES.index(label) + 2) if rng.random() < 0.8]
        rows.append([*own, *rng.permutation(np.arange(12, 40))[:10]])
    obs = pd.DataFrame({"type": labels, "donor": donors}, index=map(str, range(N_CELLS)))
    return CellSentences.from_lists(rows, VOCABULARY, obs=obs)


@pytest.fixture(scope="module")
def built(sentences):
    samples = draw_samples(sentences.obs, sample_key="donor", n_cells=6, seed=1)
    return questions(
        sentences, samples, labels_key="type", ontology=ONTOLOGY, per_kind=40, depth=DEPTH, seed=7, n_choices=3
    )


def of_kind(built, kind):
    found = [question for question in built if question.kind == kind]
    assert found
    return found


def ancestors(name):
    return {parent for each in PARENTS[name] for parent in (each, *ancestors(each))}


def is_kind(label, term):
    (kind,) = (name for name, each in IDS.items() if each == term)
    return kind in ancestors(label)


def majority(labels):
    (first, n), *others = Counter(labels).most_common()
    assert not others or others[0][1] < n, "two types are as frequent"
    return first


def brute_force(question, sentences):
    """Return the answer, from ``obs`` and the sentences alone."""
    labels = sentences.obs["type"].to_numpy()[list(question.rows)]
    about = question.about
    yes = {True: "yes", False: "no"}
    match question.kind:
        case "majority_type":
            return majority(labels)
        case "type_share":
            return yes[np.mean(labels == about["type"]) > int(about["percent"]) / 100]
        case "contains_type":
            return yes[about["type"] in set(labels)]
        case "more_of_type":
            one, other = np.split(labels == about["type"], 2)
            assert one.sum() != other.sum()
            return "the first" if one.sum() > other.sum() else "the second"
        case "kind_of":
            assert about["type"] in set(labels)
            return yes[is_kind(about["type"], about["kind"])]
        case "majority_kind_of":
            assert IDS.get(majority(labels)) != about["kind"]
            return yes[is_kind(majority(labels), about["kind"])]
        case "marker_gene":
            assert about["type"] == majority(labels)
            return next(gene for gene in question.choices if marks(sentences, about["type"], gene))


def shares(sentences, label, gene):
    held = np.array([gene in sentences.genes(i)[:DEPTH] for i in range(len(sentences))])
    mine = (sentences.obs["type"] == label).to_numpy()
    return held[mine].mean(), held[~mine].mean()


def marks(sentences, label, gene):
    here, elsewhere = shares(sentences, label, gene)
    return here >= MIN_SHARE and here - elsewhere >= MIN_DIFFERENCE


@pytest.mark.parametrize("kind", WORDINGS)
def test_every_answer_is_right(built, sentences, kind):
    for question in of_kind(built, kind):
        assert question.answer == brute_force(question, sentences)
        assert len(set(question.choices)) == len(question.choices)
        for name, value in question.about.items():
            shown = next(each for each, term in IDS.items() if term == value) if name == "kind" else value
            if kind != "marker_gene":  # its type is what the reader has to find
                assert shown in question.question
        assert "{" not in question.question


def test_only_one_choice_is_a_marker(built, sentences):
    for question in of_kind(built, "marker_gene"):
        others = [gene for gene in question.choices if gene != question.answer]
        assert others
        for gene in others:
            here, elsewhere = shares(sentences, question.about["type"], gene)
            assert here <= elsewhere
            assert any(marks(sentences, label, gene) for label in TYPES)


@pytest.mark.parametrize("kind", ["type_share", "contains_type", "kind_of", "majority_kind_of"])
def test_yes_and_no_are_balanced_within_each_question(built, kind):
    """A reader of the question without the cells is right half of the time: what is asked has as many yes as no."""
    answers = defaultdict(Counter)
    for question in of_kind(built, kind):
        key = question.about["kind"] if kind == "kind_of" else tuple(question.about.items())
        answers[key][question.answer] += 1
    assert len(answers) > 1
    assert all(each["yes"] == each["no"] for each in answers.values())


def test_halves_take_turns_and_hold_as_many_cells(built):
    found = of_kind(built, "more_of_type")
    counts = Counter(question.answer for question in found)
    assert abs(counts["the first"] - counts["the second"]) <= 1
    for question in found:
        assert len(question.rows) == len(set(question.rows)) == 12
        assert "6 cells" in question.question or "first 6" in question.question


def test_choices_stand_in_an_order_that_tells_nothing(built):
    for kind in WORDINGS:
        places = Counter(question.choices.index(question.answer) for question in of_kind(built, kind))
        n = sum(places.values())
        assert max(places.values()) < n * (0.5 if kind in ("majority_type", "marker_gene") else 0.75) + 2


def test_types_without_a_term_are_in_no_question_of_kinds(built):
    asked = {question.about["type"] for question in of_kind(built, "kind_of")}
    assert "X type" not in asked
    assert {question.about["kind"] for question in of_kind(built, "kind_of")} <= {IDS["white"], IDS["T"]}


def test_the_seed_decides_and_wordings_vary(sentences, built):
    samples = draw_samples(sentences.obs, sample_key="donor", n_cells=6, seed=1)
    settings = {"labels_key": "type", "per_kind": 40, "depth": DEPTH, "n_choices": 3, "ontology": ONTOLOGY}
    assert questions(sentences, samples, seed=7, **settings) == built
    assert questions(sentences, samples, seed=8, **settings) != built
    assert questions(sentences, samples, seed=7, kinds=["kind_of"], **settings) == of_kind(built, "kind_of")
    for kind, wordings in WORDINGS.items():
        patterns = [re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(wording))) for wording in wordings]
        used = {place for q in of_kind(built, kind) for place, p in enumerate(patterns) if p.fullmatch(q.question)}
        assert used == set(range(len(wordings)))


def test_questions_are_what_the_task_asks(sentences, built):
    task = QuestionAnswering(n_genes=5)
    examples = list(task.examples(sentences, questions=built[:20]))
    for question, example in zip(built, examples):
        assert task.parse(example.answer, choices=question.choices) == question.answer


def test_kinds_that_cannot_be_asked_are_left_out_or_named(sentences, caplog):
    samples = draw_samples(sentences.obs, sample_key="donor", n_cells=6, seed=1)
    found = questions(sentences, samples, labels_key="type", per_kind=2)
    assert {question.kind for question in found} == set(WORDINGS) - {"kind_of", "majority_kind_of"}
    many = questions(sentences, samples, labels_key="type", kinds=["majority_type"], per_kind=10_000)
    assert 0 < len(many) <= len(samples)
    assert f"{len(many)} questions of the kind majority_type" in caplog.text
    alone = sentences.with_obs(sentences.obs.assign(type="B"))
    assert questions(alone, samples, labels_key="type", ontology=ONTOLOGY) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ["why"]}, "no questions of the kind why"),
        ({"kinds": ["kind_of"]}, "pass ontology="),
        ({"per_kind": 1}, "per_kind=1"),
        ({"n_choices": 1}, "n_choices=1"),
    ],
)
def test_what_does_not_fit_is_named(sentences, settings, message):
    samples = draw_samples(sentences.obs, sample_key="donor", n_cells=6, seed=1)
    with pytest.raises(ConfigError, match=message):
        questions(sentences, samples, labels_key="type", **settings)
