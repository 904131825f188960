"""Cells from a masked-diffusion model: the whole path from training to cells, under the same constraint, alone or beside others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import c2s
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.layer_routing.plan import LayerPlan
from c2s.errors import ConfigError, ModelError
from c2s.models.diffusion_lm import DiffusionLM
from c2s.models.loading import load_cell_lm
from c2s.perturbation.problem import response_problem
from c2s.perturbation.swap import swap_gaps
from c2s.training.run import train
from tests.tiny import TRAINING, run_folder, simulated, tiny_preset

WRITING = {"task": "cell_generation", "model": "c2s-tiny", "n_genes": 8, "steps": 8, "batch_size": 4, "threads": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder of a model that writes cells."""
    folder = tmp_path_factory.mktemp("diffusion") / "cells"
    with tiny_preset():
        train(simulated().training, folder, progress=False, objective="masked_diffusion", checkpoint_steps=4, **WRITING)
    return folder


@pytest.fixture(scope="module")
def responding(tmp_path_factory):
    """Return the folder of a model that writes changes."""
    folder = tmp_path_factory.mktemp("diffusion") / "responses"
    with tiny_preset():
        train(
            simulated().training, folder, library=simulated().training_library, progress=False,
            **{**TRAINING, "objective": "masked_diffusion"},
        )  # fmt: skip
    return folder


def test_a_model_that_is_loaded_sees_both_ways_and_writes_the_same_cells(written):
    model = c2s.load_model(written)
    assert isinstance(model, DiffusionLM)
    assert model.settings.objective == "masked_diffusion"
    asked = {"cell_type": model.settings.conditions["cell_type"][0], "n": 5, "seed": 3}
    cells = model.generate(**asked)
    assert ((cells.lengths >= 1) & (cells.lengths <= 8)).all()
    assert all(len(set(cells.row(i).tolist())) == len(cells.row(i)) for i in range(5))
    again = load_cell_lm(written).generate(**asked)
    assert all(np.array_equal(cells.row(i), again.row(i)) for i in range(5))
    assert not all(np.array_equal(cells.row(i), model.generate(**{**asked, "seed": 4}).row(i)) for i in range(5))
    # the last gene decides what is said of the first place
    ids = torch.tensor([[5, 6, 7, model.mask]])
    other = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert not torch.equal(model.model(input_ids=ids).logits[0, 0], model.model(input_ids=other).logits[0, 0])


def test_the_first_cells_of_a_seed_do_not_depend_on_how_many_are_asked_for(written):
    model = load_cell_lm(written)
    model.model.double()
    kind = model.settings.conditions["cell_type"][0]
    few, many = (model.generate(cell_type=kind, n=n, seed=1) for n in (2, 20))
    assert all(np.array_equal(few.row(i), many.row(i)) for i in range(2))


def test_settings_of_decoding_are_read_by_name_and_from_a_file_and_cost_is_told(written, tmp_path):
    exact = tmp_path / "exact.json"
    exact.write_text(DecodeSettings(refresh="always", max_commits=1, commit=1.0).model_dump_json())
    assert load_cell_lm(written, decoding="paper").decoding.gamma == 0.9
    assert load_cell_lm(written).decoding.refresh == "always"
    model = load_cell_lm(written, decoding=exact)
    assert model.cost() == ""
    cells = model.generate(cell_type=model.settings.conditions["cell_type"][0], n=3, min_genes=8)
    assert cells.lengths.tolist() == [8, 8, 8]
    assert model.accounting.steps.tolist() == [9, 9, 9]  # a gene a step, and the end
    assert model.cost() == "9 steps a cell, 1.0 places a step, cache refreshed in 100% of steps"
    with pytest.raises(ConfigError, match="there is no preset 'fast'"):
        load_cell_lm(written, decoding="fast")
    model.decoding = DecodeSettings(temperature=0.5)
    with pytest.raises(ConfigError, match="decoding says temperature=0.5; it is an argument of generate"):
        model.generate(cell_type=model.settings.conditions["cell_type"][0], n=1)
    model.decoding = DecodeSettings(guidance=1.0)
    with pytest.raises(ConfigError, match="decoding says guidance=1; it needs a model that has learnt"):
        model.generate(cell_type=model.settings.conditions["cell_type"][0], n=1)
    with pytest.raises(ConfigError, match="decoding is read by models of --objective masked_diffusion"):
        load_cell_lm(run_folder(), decoding="paper")


@pytest.mark.parametrize("temperature", [-1.0, float("inf"), float("nan")])
def test_temperatures_that_are_none_are_refused(written, temperature):
    model = load_cell_lm(written)
    with pytest.raises(ConfigError, match="temperature is"):
        model.generate(cell_type=model.settings.conditions["cell_type"][0], n=1, temperature=temperature)


def test_a_killed_run_goes_on_to_the_same_weights(written, tmp_path, monkeypatch):
    from c2s.training.diffusion import DiffusionTrainer

    steps = []
    loss = DiffusionTrainer.batch_loss

    def dies(self, model, inputs):
        if model.training:
            steps.append(1)
            if len(steps) == 7:
                raise KeyboardInterrupt
        return loss(self, model, inputs)

    asked = {"progress": False, "objective": "masked_diffusion", "checkpoint_steps": 4, **WRITING}
    with tiny_preset():
        monkeypatch.setattr(DiffusionTrainer, "batch_loss", dies)
        with pytest.raises(KeyboardInterrupt):
            train(simulated().training, tmp_path / "run", **asked)
        monkeypatch.setattr(DiffusionTrainer, "batch_loss", loss)
        train(simulated().training, tmp_path / "run", resume=True, **asked)
    one, other = (load_cell_lm(each).weights_hash() for each in (written, tmp_path / "run"))
    assert one == other


def test_changes_after_perturbations_are_written_in_any_order_and_swaps_are_measured(responding):
    model = load_cell_lm(responding)
    screen = simulated()
    cells = model.encode(screen.screening[:3])
    found = model.perturb(cells, screen.training_library[:2], n_samples=2)
    assert len(found) == 3 * 2 * 2
    gaps = swap_gaps(model, screen.training, n_cells=8, n_treated=2, n_controls=2)
    assert [gap.metric for gap in gaps] == [f"swap gap, {name}" for name in ("perturbation", "context", "cell")]
    assert all(np.isfinite(gap.value) for gap in gaps)


def test_what_a_diffusion_model_cannot_is_refused_with_the_reason(written, responding):
    model = load_cell_lm(responding)
    cells = model.encode(simulated().screening[:3])
    with pytest.raises(
        ModelError, match="vectors, attributions and labels of cells needs a model that foretells the next"
    ):
        model.embed(cells)
    with pytest.raises(
        ModelError, match="this model was trained on perturbation_response, not on cell_type_annotation"
    ):
        model.annotate(cells)
    with pytest.raises(ModelError, match="reinforcement needs a model that foretells the next token"):
        response_problem(
            model, model.encode(simulated().training), validation=np.zeros(simulated().training.n_obs, bool)
        )
    with (
        pytest.raises(ModelError, match="routing needs a model that foretells the next"),
        model.routed(LayerPlan.parse("1")),
    ):
        pass
    with pytest.raises(ConfigError, match="masked_diffusion writes sentences"):
        train(simulated().training, "nowhere", task="cell_type_annotation", objective="masked_diffusion")
    with (
        tiny_preset(),
        pytest.raises(ConfigError, match="trained with objective='masked_diffusion', this run has 'next_token'"),
    ):
        train(simulated().training, str(written) + "-more", **{**WRITING, "model": str(written)}, progress=False)
