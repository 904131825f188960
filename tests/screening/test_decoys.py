"""Decoys: made-up names, targets that leave the programme alone, matched to the library they stand beside."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from c2s.cells.genes import GeneVocabulary
from c2s.cells.library import Perturbation
from c2s.screening.decoys import NEAREST, make_decoys, silent_perturbations, support_of
from c2s.screening.programmes import load_programme
from c2s.sentences.background import Background

SYMBOLS = tuple(f"GENE{i}" for i in range(200))
PROGRAMME = load_programme(["GENE0", "GENE1", "GENE2"])
DETECTION = np.linspace(0, 1, 200)
BACKGROUND = Background(GeneVocabulary(SYMBOLS), DETECTION, 1000)

TRAINED = [
    Perturbation("DMSO", role="vehicle"),
    Perturbation("quiet1", targets=("GENE10",)),
    Perturbation("quiet2", targets=("GENE11", "GENE12")),
    Perturbation("loud", targets=("GENE13",)),
    Perturbation("quiet on a loud target", targets=("GENE13", "GENE14")),
    Perturbation("quiet without targets"),
]
SILENT = {"quiet1", "quiet2", "quiet on a loud target", "quiet without targets"}
SEEN = [Perturbation("abcdef", targets=("GENE10",), mechanism="inhibitor"), Perturbation("abc", targets=("GENE13",))]
UNSEEN = [Perturbation("abcdefghij", targets=("GENE150", "GENE151"), mechanism="degrader")]


def decoys(library, n=300, *, silent=SILENT, seed=0, background=BACKGROUND, trained=TRAINED):
    return make_decoys(library, trained, silent=silent, programme=PROGRAMME, background=background, n=n, seed=seed)


@pytest.mark.parametrize(("perturbation", "support"), [
    (Perturbation("loud", targets=("GENE99",)), "seen"),
    (Perturbation("new", targets=("GENE99", "GENE12")), "seen target"),
    (Perturbation("new", targets=("GENE99",)), "unseen"),
    (Perturbation("new"), "unseen"),
])  # fmt: skip
def test_support(perturbation, support):
    assert support_of(perturbation, TRAINED) == support


def responses(changes, halves):
    """Return responses in which every gene of a row changes alike."""
    return pd.DataFrame({
        "perturbation": [name for name, _ in changes],
        "change": [np.full(4, value, np.float32) for _, value in changes],
        "half_difference": [np.full(4, half, np.float32) for half in halves],
    })  # fmt: skip


def test_silent_means_within_two_noise_levels_in_every_context():
    table = responses([("a", 0.19), ("a", -0.19), ("b", 0.0), ("b", 0.21), ("c", -0.21), ("d", 0.0)], [0.1, -0.1] * 3)
    assert silent_perturbations(table, np.array([0, 1])) == {"a", "d"}


def test_only_the_programme_decides_who_is_silent():
    table = responses([("a", 0.0), ("b", 0.0)], [0.1, 0.1])
    table["change"] = [np.array([0, 0, 9, 9], np.float32), np.array([9, 9, 0, 0], np.float32)]
    assert silent_perturbations(table, np.array([0, 1])) == {"a"}
    assert silent_perturbations(table, np.array([2, 3])) == {"b"}
    table["change"] = [np.array([0.5, -0.5, 0, 0], np.float32)] * 2  # the mean of the programme is what counts
    assert silent_perturbations(table, np.array([0, 1])) == {"a", "b"}


def test_nothing_measured_nothing_silent():
    assert silent_perturbations(responses([], []), np.array([0])) == set()


def test_a_single_cell_says_nothing_of_the_noise():
    changes = [("a", 0.15), ("b", 0.25), ("c", 0.1)]
    assert silent_perturbations(responses(changes, [0.1, -0.1, np.nan]), np.array([0])) == {"a", "c"}
    assert silent_perturbations(responses(changes, [np.nan] * 3), np.array([0])) == set()


def test_seen_decoys_take_targets_that_only_silent_drugs_act_on():
    found = decoys(SEEN)
    assert {d.targets for d in found} == {("GENE10",), ("GENE11", "GENE12")}
    assert {support_of(d, TRAINED) for d in found} == {"seen target"}
    assert {d.role for d in found} == {"decoy"}
    counts = Counter(d.targets for d in found)
    assert min(counts.values()) > 110  # each about 150 of 300


def test_names_are_pieces_of_library_names_and_collide_with_nothing():
    """A model answers to pieces of names; a null of other pieces would be no null for the library."""
    library = [
        Perturbation(f"{first}{last}") for first in ("abi", "dexo", "tra") for last in ("nib", "mab", "zol", "statin")
    ]
    found = [d.name for d in decoys([*library, Perturbation("vehicle with a long name", role="vehicle")], n=60)]
    assert len(set(found)) == 60
    assert not set(found) & {p.name for p in [*library, *TRAINED]}
    known = [p.name for p in library]
    for name in found:
        cuts = [i for i in range(1, len(name)) if any(k.startswith(name[:i]) for k in known)]
        assert any(k.endswith(name[i:]) for i in cuts for k in known), name


def test_few_names_are_made_of_letters_of_their_lengths():
    names = [d.name for d in decoys(SEEN)]
    assert len(set(names)) == len(names) == 300
    lengths = Counter(map(len, names))
    assert max(lengths) <= 8  # pieces are shorter than the whole, and a taken word grows by a letter
    assert min(lengths[3] + lengths[4], lengths[6] + lengths[7]) > 50


def test_names_that_are_taken_are_not_given():
    every = [Perturbation(a + e, targets=("GENE10",)) for a in "bcdfglmnprstvz" for e in "aeiou"]
    found = decoys(every[:-1], n=40)
    assert not {d.name for d in found} & {p.name for p in every[:-1]}
    assert len({d.name for d in found}) == 40


def test_a_third_have_unseen_targets_where_the_library_has_such_drugs():
    found = decoys([*SEEN, *UNSEEN])
    unseen = [d for d in found if support_of(d, TRAINED) == "unseen"]
    assert len(unseen) == 100
    assert len(decoys(SEEN)) - sum(support_of(d, TRAINED) == "seen target" for d in decoys(SEEN)) == 0
    taken = {t for p in TRAINED for t in p.targets} | set(PROGRAMME.genes)
    for decoy in unseen:
        assert decoy.targets
        assert not set(decoy.targets) & taken
        assert 1 <= len(decoy.targets) <= 2


def test_unseen_targets_are_as_common_as_the_librarys():
    found = [d for d in decoys([*SEEN, *UNSEEN]) if support_of(d, TRAINED) == "unseen"]
    places = [SYMBOLS.index(target) for d in found for target in d.targets]
    assert max(abs(place - 150) for place in places) <= NEAREST / 2 + 1
    assert len(set(places)) > NEAREST / 2


def test_unseen_targets_are_never_programme_genes():
    found = decoys([*SEEN, Perturbation("rare", targets=("GENE3",))])  # next to the programme in detection
    unseen = {t for d in found if support_of(d, TRAINED) == "unseen" for t in d.targets}
    assert {"GENE4", "GENE5"} <= unseen
    assert not unseen & set(PROGRAMME.genes)


def test_drugs_without_known_targets_have_unseen_decoys_too():
    for row in (Perturbation("newdrug"), Perturbation("newdrug", targets=("NOT_A_GENE_OF_THE_MODEL",))):
        found = decoys([*SEEN, row])
        assert sum(support_of(d, TRAINED) == "unseen" for d in found) == 100


def test_where_nothing_is_silent_all_targets_are_unseen_and_this_is_said(caplog):
    with caplog.at_level(logging.WARNING, logger="c2s"):
        found = decoys(SEEN, silent={"quiet without targets"})
    assert "all decoys have unseen targets" in caplog.text
    assert {support_of(d, TRAINED) for d in found} == {"unseen"}


def test_the_seed_decides():
    assert decoys(SEEN) == decoys(SEEN)
    assert decoys(SEEN, seed=1) != decoys(SEEN)
    assert decoys(SEEN, n=0) == []


def test_decoys_show_what_the_library_shows():
    """Where every drug has dose and time, so has every decoy: else the null is of another kind of prompt."""
    library = [Perturbation("a", targets=("GENE10",), mechanism="inhibitor", dose="1 µM", time="24 h"),
               Perturbation("b", targets=("GENE150",), mechanism="degrader", dose="10 µM", time="6 h")]  # fmt: skip
    shown = Counter((row.mechanism, row.dose, row.time) for row in decoys(library))
    assert set(shown) == {("inhibitor", "1 µM", "24 h"), ("degrader", "10 µM", "6 h")}


def test_a_panel_without_a_free_gene_has_only_decoys_with_seen_targets(caplog):
    panel = Background(
        GeneVocabulary(("GENE0", "GENE1", "GENE2", "GENE10", "GENE11", "GENE12", "GENE13", "GENE14")),
        np.full(8, 0.5),
        10,
    )
    with caplog.at_level(logging.WARNING, logger="c2s"):
        found = decoys([*SEEN, *UNSEEN], n=30, background=panel)
    assert {support_of(d, TRAINED) for d in found} == {"seen target"}
    assert "decoys with unseen targets cannot be made" in caplog.text
    assert decoys(UNSEEN, n=30, background=panel, silent=set()) == []
