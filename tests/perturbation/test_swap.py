"""A planted reader: what a model does not read costs nothing when it is swapped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2s.errors import DataError, ModelError
from c2s.models.loading import load_cell_lm
from c2s.perturbation.swap import SWAPS, answer_log_likelihoods, swap_gaps
from c2s.tasks.base import Example, Genes, Mark
from tests.perturbation.planted import LIBRARY, cells, model


@pytest.mark.parametrize("target", ["sentence", "delta"])
def test_every_swap_is_measured_over_conditions(target):
    found = swap_gaps(model(target), cells(), n_cells=40, seed=1)
    assert [row.metric for row in found] == [f"swap gap, {name}" for name in SWAPS]
    assert all(np.isfinite(row.value) and row.low <= row.value <= row.high and row.n == 8 for row in found)
    assert swap_gaps(model(target), cells(), n_cells=40, seed=1) == found


def test_a_model_that_cannot_see_the_prompt_has_no_gap(monkeypatch):
    known = model()
    monkeypatch.setattr("c2s.perturbation.swap.answer_log_likelihoods", lambda _, examples: np.arange(len(examples)) * 1.0)  # fmt: skip
    assert all(row.value == 0 for row in swap_gaps(known, cells(), n_cells=20))


def test_the_gap_is_what_a_planted_likelihood_says(monkeypatch):
    known = model()

    def by_name(_, examples):
        told = [
            next(part for part in example.prompt if isinstance(part, str) and part not in ("HeLa", "A549"))
            for example in examples
        ]
        by_name.calls.append(told)
        own = by_name.calls[0]
        return np.array([0.0 if name == mine else -2.0 for name, mine in zip(told, own)])

    by_name.calls = []
    monkeypatch.setattr("c2s.perturbation.swap.answer_log_likelihoods", by_name)
    gaps = {row.metric: row.value for row in swap_gaps(known, cells(), n_cells=24)}
    assert gaps == {"swap gap, perturbation": 2.0, "swap gap, context": 0.0, "swap gap, cell": 0.0}


def test_likelihoods_are_those_of_a_plain_forward_pass():
    known = model()
    prompt = (Mark("cell"), Genes(np.array([1, 2], dtype=np.int32)), Mark("sentence"))
    examples = [
        Example(prompt, (Genes(np.array(ids, dtype=np.int32)), Mark("end"))) for ids in ([3, 4, 5], [7], [9, 8])
    ]
    found = answer_log_likelihoods(known, examples)
    for value, example in zip(found, examples):
        ids = torch.tensor([known.tokens.render((*example.prompt, *example.answer))])
        with torch.no_grad():
            log_probs = torch.log_softmax(known.model(ids).logits[0, :-1].float(), -1)
        each = log_probs.gather(1, ids[0, 1:, None])[3:, 0]
        assert value == pytest.approx(float(each.mean()), abs=1e-5)


def test_nothing_to_swap_is_said_and_nothing_to_ask_is_refused():
    known = model()
    names = cells().obs["given"].to_numpy(str)
    one = cells()[(cells().obs["line"] == "HeLa") & np.isin(names, ["medium", "TNF"])].copy()
    reasons = {row.metric: row.reason for row in swap_gaps(known, one, n_cells=10)}
    assert reasons["swap gap, perturbation"] == "there is one perturbation"
    assert reasons["swap gap, context"] == "there is one context"
    with pytest.raises(DataError, match="no perturbed cell has a control"):
        swap_gaps(known, cells()[names == "medium"].copy())
    with pytest.raises(DataError, match="not in the library"):
        swap_gaps(known, _renamed("TNF", "poison"), library=LIBRARY[:1])


def test_the_order_of_genes_and_contexts_without_controls_are_of_no_consequence(caplog):
    known = model("delta")
    order = np.random.default_rng(0).permutation(cells().n_vars)
    for found, expected in zip(
        swap_gaps(known, cells()[:, order].copy(), n_cells=24), swap_gaps(known, cells(), n_cells=24)
    ):
        assert found.value == pytest.approx(expected.value, abs=1e-5)
    obs = cells().obs
    kept = ~((obs["given"] == "medium") & (obs["line"] == "A549")).to_numpy()
    assert swap_gaps(known, cells()[kept].copy(), n_cells=24)[0].n == 4
    assert "have no control of their context" in caplog.text


def test_another_task_is_refused():
    from tests.tiny import annotation_folder, simulated

    with pytest.raises(ModelError, match="not on perturbation_response"):
        swap_gaps(load_cell_lm(annotation_folder()), simulated().training)


def _renamed(old, new):
    found = cells().copy()
    found.obs["given"] = found.obs["given"].astype(str).replace(old, new)
    return found
