"""Rewards of plans say what annotation says, label by label, and cost only the layers that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2s.engines.layer_routing import LayerPlan
from c2s.errors import ModelError
from c2s.training.label_rewards import LabelRewards, packed
from tests.engines.layer_routing import toy
from tests.training import routable

FULL = LayerPlan.execute_all(routable.N_LAYERS)


@pytest.mark.parametrize("plan", [FULL, routable.PLANTED, LayerPlan.parse("0212")], ids=str)
def test_rewards_are_the_log_probabilities_of_annotation(plan):
    lm, cells = routable.model(), routable.sentences()[:5]
    truth = ["γδ T", "B cell", "CD4 T cell", "CD14 monocyte", "B cell"]
    found = LabelRewards(lm, cells, truth)(range(5), [plan] * 5)
    right = LabelRewards(lm, cells, truth, kind="correct")(range(5), [plan] * 5)
    with lm.routed(plan):
        table = lm.annotate(cells)
    expected = [np.log(table[f"p({label})"].iloc[i]) for i, label in enumerate(truth)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert right == [float(said == label) for said, label in zip(table["label"], truth)]


def test_plans_share_their_first_layers_and_no_question_is_asked_twice():
    lm, cells = routable.model(), routable.sentences()
    rewards = LabelRewards(lm, cells, cells.obs["cell_type"].tolist())
    inputs, _ = packed(lm.model, rewards.prompts[3], rewards.answers)
    length = inputs["input_ids"].shape[1]
    assert length == len(rewards.prompts[3]) + sum(len(answer) - 1 for answer in rewards.answers)
    rewards([3, 3, 3], [FULL, LayerPlan.parse("1110"), FULL])
    assert (rewards.executed, rewards.naive) == (length * 4, length * 7)


def test_a_window_shorter_than_the_prompt_is_refused():
    with pytest.raises(
        ModelError, match="take 9 tokens, and the model looks back over 5; plans are searched for models"
    ):
        packed(toy.shared("mistral"), [3, 4, 5, 6, 7, 8], [[5, 6, 7, 1], [4, 1]])


def test_eager_attention_reads_the_same_mask():
    model = toy.model("llama")
    inputs, places = packed(model, [3, 4, 5, 6], [[5, 6, 1], [4, 1], [9, 8, 7, 1]])
    with torch.no_grad():
        fast = model(**inputs, use_cache=False).logits
        model.set_attn_implementation("eager")
        torch.testing.assert_close(model(**inputs, use_cache=False).logits, fast, rtol=0, atol=1e-5)
    assert places == [[0, 1, 2], [0, 3], [0, 4, 5, 6]]
