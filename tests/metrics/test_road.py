"""The road of a model's sentences, read from what a folder holds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from c2s.errors import ArtefactError
from c2s.metrics.road import SentenceRoad, as_written
from c2s.models.settings import SETTINGS_FILE
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a copy of a run folder, which a test may change and set back."""
    return shutil.copytree(tiny.run_folder(), tmp_path_factory.mktemp("model") / "run")


def with_tasks(folder, tasks) -> SentenceRoad:
    path = folder / "model" / SETTINGS_FILE
    record = json.loads(path.read_text())
    record["settings"]["tasks"] = tasks
    path.write_text(json.dumps(record))
    return SentenceRoad.read(folder)


def test_a_model_cuts_sentences_as_it_writes_them(model):
    road = SentenceRoad.read(model)
    assert road.n_genes is None  # changes move genes of whole sentences
    assert road.vocabulary.symbols == road.decoder.vocabulary.symbols
    assert SentenceRoad.read(model / "model").vocabulary.hash == road.vocabulary.hash
    assert with_tasks(model, {"perturbation_response": {"target": "sentence", "n_answer": 40}}).n_genes == 40
    assert with_tasks(model, {"cell_generation": {"n_genes": 30}}).n_genes == 30
    assert with_tasks(model, {"cell_type_annotation": {"n_genes": 30}}).n_genes is None


def test_cells_come_back_as_the_model_would_tell_them(model):
    road = with_tasks(model, {"cell_generation": {"n_genes": 25}})
    cells = tiny.simulated().training[:8]
    by_hand = as_written(encode(cells, n_genes=25, vocabulary=road.vocabulary, background=road.background))
    np.testing.assert_array_equal(road(cells).X.toarray(), road.decoder.decode(by_hand).X.toarray())


def test_corpora_and_decoders_have_roads(tmp_path):
    cells = tiny.simulated().training
    decoder = RankDecoder.fit(cells)
    decoder.write(tmp_path / "decoder")
    alone = SentenceRoad.read(tmp_path / "decoder")
    assert alone.n_genes is None
    assert alone.background is not None
    encode(cells, n_genes=30).write(tmp_path / "corpus")
    decoder.write(tmp_path / "corpus" / "decoder")
    assert SentenceRoad.read(tmp_path / "corpus").n_genes == 30


def test_what_is_no_road_is_refused(model, tmp_path):
    with pytest.raises(ArtefactError, match="holds no decoder.json"):
        SentenceRoad.read(tmp_path)
    path = model / "model" / SETTINGS_FILE
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in record.items() if key != "background"}))
    with pytest.raises(ArtefactError, match="damaged .it lacks 'background'."):
        SentenceRoad.read(model)
    path.write_text(json.dumps(record)[:40])
    with pytest.raises(ArtefactError, match="not valid JSON"):
        SentenceRoad.read(model)
