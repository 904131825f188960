"""Training from a corpus gives the model of its cells, whether it is in memory or mapped, in memory that stays small."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks.corpus.synthetic import write_synthetic
from c2s.errors import ConfigError, DataError
from c2s.models.loading import load_cell_lm
from c2s.sentences.corpus import read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.sentences.encode import encode
from c2s.sentences.stream import encode_file
from c2s.training.run import train
from c2s.training.sft import AnswerTrainer
from tests import tiny

TASKS = {
    "cell_type_annotation": {"n_genes": 8},
    "cell_generation": {"n_genes": 20, "context_keys": ("ifn", "donor"), "split_by": "donor", "validation_share": 0.5},
}


def quick(cells, out, task, **changes):
    settings = {"model": "c2s-tiny", "steps": 4, "batch_size": 4, "threads": 1, "checkpoint_steps": 2, **TASKS[task]}
    return train(cells, out, task=task, progress=False, **{**settings, **changes})


def same_weights(one, other) -> bool:
    a, b = one.model.state_dict(), other.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    tiny.simulated().training.write_h5ad(folder / "cells.h5ad")
    encode_file(folder / "cells.h5ad", folder / "c", decoder="gene_aware", progress=False)
    return folder / "c"


@pytest.mark.parametrize("task", TASKS)
def test_the_model_is_that_of_the_cells(corpus, tmp_path, task):
    whole = quick(tiny.simulated().training, tmp_path / "cells", task)
    for mode in (False, True):
        sentences = read_sentences(corpus, memory_map=mode)
        model = quick(sentences, tmp_path / str(mode), task, decoder=RankDecoder.read(corpus))
        assert same_weights(model, whole)
        records = [{**each.settings.training, "seconds": 0} for each in (model, whole)]
        assert records[0] == records[1]
        assert model.settings.with_(training={}) == whole.settings.with_(training={})
        assert model.tokens.tokenizer.get_vocab() == whole.tokens.tokenizer.get_vocab()
        loaded = load_cell_lm(tmp_path / str(mode))
        assert loaded.background == whole.background
        cells = encode(tiny.simulated().screening, vocabulary=loaded.vocabulary, background=loaded.background)
        assert (loaded.decoder.decode(cells).X != whole.decoder.decode(cells).X).nnz == 0


def test_a_shorter_corpus_shows_as_many_genes(corpus, tmp_path):
    whole = read_sentences(corpus)
    models = [
        quick(sentences, tmp_path / name, "cell_type_annotation", decoder=RankDecoder.read(corpus))
        for name, sentences in (("whole", whole), ("cut", whole.truncate(8)))
    ]
    assert same_weights(*models)


def test_resuming_from_a_mapped_corpus(corpus, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    sentences, decoder = read_sentences(corpus, memory_map=True), RankDecoder.read(corpus)
    whole = quick(sentences, tmp_path / "a", "cell_generation", decoder=decoder)
    step = AnswerTrainer.training_step

    def dying(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise Killed
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(AnswerTrainer, "training_step", dying)
        quick(sentences, tmp_path / "b", "cell_generation", decoder=decoder)
    with pytest.raises(ConfigError, match="started with other cells"):
        quick(sentences[::-1], tmp_path / "b", "cell_generation", decoder=decoder, resume=True)
    assert same_weights(quick(sentences, tmp_path / "b", "cell_generation", decoder=decoder, resume=True), whole)


def test_going_on_from_a_model(corpus, tmp_path):
    model = quick(tiny.simulated().training, tmp_path / "a", "cell_type_annotation")
    after = quick(read_sentences(corpus), tmp_path / "b", "cell_generation", model=str(tmp_path / "a"))
    assert set(after.settings.tasks) == {"cell_type_annotation", "cell_generation"}
    assert after.decoder.vocabulary == model.decoder.vocabulary
    other = encode(tiny.simulated().screening)
    with pytest.raises(ConfigError, match="other genes or another background than the model"):
        quick(other, tmp_path / "c", "cell_generation", model=str(tmp_path / "a"))


def test_a_corpus_that_cannot_be_trained_on(corpus, tmp_path):
    sentences, decoder = read_sentences(corpus), RankDecoder.read(corpus)
    cells = tiny.simulated().training
    other = RankDecoder.fit(cells[:, :100])
    for changes, given, kept, words in (
        ({"layer": "raw"}, sentences, decoder, "layer is 'raw', but the sentences are encoded already"),
        ({"n_genes": 9}, sentences.truncate(8), decoder, "n_genes is 9, the sentences were cut after 8"),
        (
            {},
            encode(cells, ties="vocabulary"),
            decoder,
            "no background .ties='vocabulary'.*encode with ties='background'",
        ),
        ({}, sentences, None, "found none; encode with --fit-decoder, or pass decoder="),
        ({}, sentences, other, "found one of 100 other genes"),
        ({"task": "perturbation_response"}, sentences, decoder, "averages the expression of cells.*pass the AnnData"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(
                given,
                tmp_path,
                progress=False,
                decoder=kept,
                **{"task": "cell_type_annotation", "n_genes": 8, **changes},
            )
    with pytest.raises(DataError, match="the corpus holds no sentence"):
        quick(sentences[:0], tmp_path, "cell_type_annotation", decoder=decoder)
    assert not any(tmp_path.iterdir())


BOUNDED = """
import sys, threading
from pathlib import Path
from benchmarks.corpus.synthetic import write_synthetic
from c2s.sentences.corpus import read_sentences
from c2s.sentences.decode import RankDecoder
from c2s.training.run import train
from tests import tiny

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

done, seen = threading.Event(), []
def watch():
    while not done.wait(0.01):
        seen.append(anonymous())

place, task = Path(sys.argv[1]), sys.argv[2]
decoder = RankDecoder(
    "log_rank", read_sentences(place / "small").vocabulary, read_sentences(place / "small").encoding, None,
    normalised_from="counts", median_n_expressed=200, n_cells=1, intercept=3.0, slope=-1.0,
)
settings = {
    "task": task, "model": "c2s-tiny", "steps": 3, "batch_size": 4, "threads": 1, "n_genes": 20, "progress": False,
    "checkpoint_steps": 2,
}
def run(name):
    train(read_sentences(place / name, memory_map=True), place / f"{name}-run", decoder=decoder, **settings)

with tiny.tiny_preset():
    run("small")  # loads and compiles what a run needs
    base = anonymous()
    watching = threading.Thread(target=watch)
    watching.start()
    run("large")
    done.set()
    watching.join()
print(max(seen) - base)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize(
    ("task", "cells", "most"),
    [
        ("cell_generation", 100_000, 60),
        pytest.param("cell_generation", 500_000, 120, marks=pytest.mark.slow),
        pytest.param("cell_type_annotation", 500_000, 120, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_small(tmp_path, task, cells, most):
    """The ids alone are 80 and 400 MB; opening and training adds less than that of the process's own memory."""
    write_synthetic(tmp_path / "small", cells=1000, n_genes=211)  # few genes: the logits of a batch are small
    write_synthetic(tmp_path / "large", cells=cells, n_genes=211)
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path), task], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sum(file.stat().st_size for file in tmp_path.glob("large/mapped-*/ids.npy")) > 800 * cells
    assert 0 < float(done.stdout) < most
