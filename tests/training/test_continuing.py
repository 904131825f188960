"""Going on from a model keeps what both runs learnt, and says so nowhere twice."""

from __future__ import annotations

import pandas as pd
import pytest

from c2s.errors import ConfigError
from c2s.models.settings import ModelSettings, PerturbationSettings
from c2s.training.continuing import continued_responses, continued_settings


def run(names, held_out=(), **changes) -> ModelSettings:
    values = {"perturbation_key": "drug", "control": "DMSO", "context_keys": ("ifn",), **changes}
    library = tuple({"name": name, "targets": ["T"]} for name in ("DMSO", *names))
    return ModelSettings(
        tasks={"perturbation_response": {"n_genes": 3}}, perturbation=PerturbationSettings(library=library, held_out=held_out, **values)
    )  # fmt: skip


def test_drugs_of_both_runs_are_known():
    both = continued_settings(run(["a", "b", "c"], ("b", "c")), run(["c", "d", "e"], ("e",), match_by=("donor",)))
    assert [row["name"] for row in both.perturbation.library] == ["DMSO", "a", "b", "c", "d", "e"]
    assert both.perturbation.held_out == ("b", "e")  # c was held out at first and learnt later
    assert both.perturbation.match_by == ("donor",)


def test_another_task_leaves_perturbations_alone():
    before = run(["a"])
    after = continued_settings(before, ModelSettings(tasks={"cell_type_annotation": {}}, labels=("B", "T")))
    assert set(after.tasks) == {"perturbation_response", "cell_type_annotation"}
    assert after.perturbation == before.perturbation
    assert after.labels == ("B", "T")


@pytest.mark.parametrize("changes", [{"context_keys": ("line",)}, {"control": "PBS"}])
def test_prompts_that_do_not_agree_are_refused(changes):
    with pytest.raises(ConfigError, match="go on with the same, or start from a preset"):
        continued_settings(run(["a"]), run(["b"], **changes))


def test_conditions_of_both_runs():
    before, now = (
        ModelSettings(conditions={"cell_type": ("B", "T")}),
        ModelSettings(conditions={"cell_type": ("NK", "T"), "age": ("3",)}),
    )
    assert continued_settings(before, now).conditions == {"cell_type": ("B", "NK", "T"), "age": ("3",)}


def test_responses_of_both_runs():
    def responses(**held_out):
        return pd.DataFrame(
            {"perturbation": list(held_out), "held_out": list(held_out.values()), "n_cells": len(held_out)}
        )

    settings = continued_settings(run(["a", "b", "c"], ("b", "c")), run(["c", "d"]))
    both = continued_responses(responses(a=False, b=True, c=True), responses(c=False, d=False), settings)
    assert both.set_index("perturbation")["held_out"].to_dict() == {"a": False, "b": True, "c": False, "d": False}
    assert both.set_index("perturbation").loc["c", "n_cells"] == 2
    first = responses(a=False)
    assert continued_responses(first, None, settings) is first
    assert continued_responses(None, first, settings) is first
