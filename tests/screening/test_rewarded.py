"""A programme that a model was reinforced on is told of: its hits are what the model was paid for."""

from __future__ import annotations

import pytest

from c2s.models.loading import load_cell_lm
from c2s.screening.plan import rewarded_genes
from c2s.screening.programmes import load_programme
from tests import tiny


@pytest.fixture(scope="module")
def model():
    return load_cell_lm(tiny.run_folder())


def reinforced(model, *genes):
    told = {**model.settings.training, "reinforced": {"steps": 3, "programme": list(genes)}}
    model.settings = model.settings.with_(training=told)
    return model


def test_genes_that_were_paid_for_are_named(model):
    programme = load_programme("MHC_CLASS_I")
    assert rewarded_genes(model, programme) == []
    assert rewarded_genes(reinforced(model, "ISG15"), programme) == []
    (note,) = rewarded_genes(reinforced(model, "B2M", "ISG15", "TAP1"), programme)
    assert f"on 2 of the {len(programme.genes)} genes of MHC_CLASS_I" in note and "B2M" in note and "circular" in note
