from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from c2s.baselines.targets import MeanResponse, TargetNeighbours, TargetRidge
from c2s.cells.library import Perturbation
from c2s.errors import ConfigError, DataError, ModelError


def drug(name: str, *targets: str) -> Perturbation:
    return Perturbation(name, targets=targets)


@pytest.fixture
def measured():
    """Six drugs over three targets in two contexts, three genes: noise-free sums of target effects."""
    rng = np.random.default_rng(3)
    effect = {(t, c): rng.normal(size=3) for t in "ABC" for c in ("low", "none")}
    drugs = [drug("a", "A"), drug("b", "B"), drug("c", "C"), drug("ab", "A", "B"), drug("bc", "B", "C"), drug("x")]
    pairs = [(d, c) for d in drugs for c in ("low", "none")]
    responses = np.array([sum((effect[t, c] for t in d.targets), np.zeros(3)) for d, c in pairs])
    return [d for d, _ in pairs], [c for _, c in pairs], responses, effect


def test_mean_response_is_the_mean_of_the_context(measured):
    drugs, contexts, responses, _ = measured
    predicted = MeanResponse().fit(drugs, contexts, responses).predict([drug("new"), drug("q", "A")], ["none", "low"])
    np.testing.assert_allclose(predicted[0], responses[1::2].mean(axis=0))
    np.testing.assert_allclose(predicted[1], responses[0::2].mean(axis=0))


def test_ridge_with_one_target_is_a_shrunken_difference_of_means():
    # one context: the target's main effect and interaction are the same column, so the penalty on their sum is
    # alpha / 2, and with n1 of n rows holding the target the centred sum of squares is n1 (n - n1) / n
    rng = np.random.default_rng(0)
    drugs = [drug(f"t{i}", "A") for i in range(3)] + [drug(f"n{i}") for i in range(5)]
    responses = rng.normal(size=(8, 4))
    alpha = 2.5
    fitted = TargetRidge(alpha=alpha).fit(drugs, ["low"] * 8, responses)
    spread = 3 * 5 / 8
    effect = (responses[:3].mean(axis=0) - responses[3:].mean(axis=0)) * spread / (spread + alpha / 2)
    without = responses.mean(axis=0) - 3 / 8 * effect
    predicted = fitted.predict([drug("new", "A"), drug("other", "Z")], ["low", "low"])
    np.testing.assert_allclose(predicted, [without + effect, without], rtol=1e-10)


def test_ridge_equals_scikit_learn_on_centred_features(measured):
    drugs, contexts, responses, _ = measured
    low = np.array(contexts) == "low"
    hot = np.array([[t in d.targets for t in "ABC"] for d in drugs], dtype=float)
    features = np.hstack([hot, hot * low[:, None], hot * ~low[:, None]])
    x, y = features.copy(), responses.copy()
    for chosen in (low, ~low):
        x[chosen] -= x[chosen].mean(axis=0)
        y[chosen] -= y[chosen].mean(axis=0)
    reference = Ridge(alpha=0.7, fit_intercept=False).fit(x, y)
    expected = reference.predict(x) + (responses - y)
    fitted = TargetRidge(alpha=0.7).fit(drugs, contexts, responses)
    np.testing.assert_allclose(fitted.predict(drugs, contexts), expected, rtol=1e-8)


def test_ridge_recovers_an_unseen_combination_and_chooses_a_small_penalty(measured):
    drugs, contexts, responses, effect = measured
    fitted = TargetRidge().fit(drugs, contexts, responses)
    assert fitted.alpha_ <= 0.1
    predicted = fitted.predict([drug("ac", "A", "C")], ["low"])
    np.testing.assert_allclose(predicted[0], effect["A", "low"] + effect["C", "low"], atol=0.1)


def test_ridge_shrinks_pure_noise_to_the_context_mean():
    rng = np.random.default_rng(1)
    drugs = [drug(f"d{i}", f"T{i % 20}") for i in range(60)]
    responses = rng.normal(size=(60, 50))
    fitted = TargetRidge().fit(drugs, ["low"] * 60, responses)
    assert fitted.alpha_ >= 10
    gap = np.abs(fitted.predict(drugs, ["low"] * 60) - responses.mean(axis=0)).mean()
    assert gap < 0.25 * np.abs(responses).mean()


def test_a_penalty_is_chosen_with_perturbations_kept_whole():
    # copies of a drug in both parts would make the smallest penalty look best
    rng = np.random.default_rng(2)
    drugs = [drug(f"d{i}", f"T{i // 2}") for i in range(40) for _ in range(4)]
    responses = np.repeat(rng.normal(size=(40, 20)), 4, axis=0)
    fitted = TargetRidge().fit(drugs, ["low"] * 160, responses)
    leaking = TargetRidge().fit([drug(f"row{i}", *d.targets) for i, d in enumerate(drugs)], ["low"] * 160, responses)
    assert leaking.alpha_ <= 1
    assert fitted.alpha_ >= 30


def test_one_perturbation_needs_no_cross_validation():
    fitted = TargetRidge().fit([drug("d", "A")] * 2, ["low", "none"], [[1.0], [3.0]])
    np.testing.assert_allclose(fitted.predict([drug("d", "A")], ["none"]), [[3.0]])


def test_neighbours_average_by_jaccard_within_the_context():
    drugs = [drug("same", "A", "B"), drug("half", "A"), drug("none", "Z"), drug("same", "A", "B")]
    contexts = ["low", "low", "low", "none"]
    fitted = TargetNeighbours(k=5).fit(drugs, contexts, [[4.0], [1.0], [100.0], [-50.0]])
    predicted = fitted.predict([drug("new", "A", "B"), drug("new", "Q"), drug("new", "A", "B")], ["low", "low", "none"])
    np.testing.assert_allclose(predicted, [[(4 * 1 + 1 * 0.5) / 1.5], [35.0], [-50.0]])


def test_neighbours_take_the_k_most_alike_and_all_ties():
    drugs = [drug("best", "A", "B"), drug("tie1", "A"), drug("tie2", "B"), drug("far", "A", "X", "Y", "Z")]
    responses = np.array([[6.0], [0.0], [3.0], [99.0]])
    target = [drug("new", "A", "B")]
    one = TargetNeighbours(k=1).fit(drugs, ["low"] * 4, responses).predict(target, ["low"])
    two = TargetNeighbours(k=2).fit(drugs, ["low"] * 4, responses).predict(target, ["low"])
    back = TargetNeighbours(k=2).fit(drugs[::-1], ["low"] * 4, responses[::-1]).predict(target, ["low"])
    np.testing.assert_allclose(one, [[6.0]])
    np.testing.assert_allclose(two, [[(6 + 0 + 1.5) / 2]])
    np.testing.assert_allclose(back, two)


@pytest.mark.parametrize("baseline", [MeanResponse(), TargetRidge(), TargetNeighbours()])
def test_bad_input_is_refused(baseline, measured):
    drugs, contexts, responses, _ = measured
    with pytest.raises(ModelError, match="call fit first"):
        type(baseline)().predict(drugs, contexts)
    with pytest.raises(DataError, match="one row of responses per pair"):
        baseline.fit(drugs, contexts[:-1], responses)
    with pytest.raises(DataError, match="1 values that are not finite"):
        baseline.fit(drugs[:1], contexts[:1], [[np.nan]])
    baseline.fit(drugs, contexts, responses)
    with pytest.raises(DataError, match="context high; trained on low, none"):
        baseline.predict([drug("a", "A")], ["high"])
    with pytest.raises(DataError, match="one context per perturbation"):
        baseline.predict(drugs, ["low"])


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="above 0"):
        TargetRidge(alpha=0.0)
    with pytest.raises(ConfigError, match="at least 1"):
        TargetNeighbours(k=0)
