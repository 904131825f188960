from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from c2s.errors import DataError
from c2s.screening.contrasts import context_weights, contrast, split_weights

CONTEXTS = ("low", "none")


def cells_of(first: dict[str, int], second: dict[str, int]) -> pd.DataFrame:
    """Return cells with the given number per unit in each context."""
    rows = [
        (c, u) for c, units in zip(CONTEXTS, (first, second), strict=True) for u, n in units.items() for _ in range(n)
    ]
    return pd.DataFrame(rows, columns=["context", "unit"]).sample(frac=1.0, random_state=0, ignore_index=True)


def unit_means(values: np.ndarray, cells: pd.DataFrame, context: str) -> pd.Series:
    chosen = (cells["context"] == context).to_numpy()
    return pd.Series(values[chosen]).groupby(cells.loc[chosen, "unit"].to_numpy()).mean()


UNITS = {f"d{i}": 2 + i % 3 for i in range(7)}
OTHER = {f"e{i}": 3 for i in range(6)}
LAYOUTS = {
    "paired": cells_of(UNITS, dict.fromkeys(UNITS, 4)),
    "unpaired": cells_of(UNITS, OTHER),
    "few": cells_of({"d0": 5, "d1": 9}, {"d0": 7, "d1": 4}),
    "mixed": cells_of(UNITS, {"d0": 6, "d1": 6}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_estimates_are_means_of_unit_means_and_weights_reproduce_them(layout):
    cells = LAYOUTS[layout]
    values = np.random.default_rng(1).normal(size=(3, len(cells)))
    measured = contrast(values, cells, CONTEXTS)
    means = [[unit_means(row, cells, context).mean() for row in values] for context in CONTEXTS]
    np.testing.assert_allclose(measured.first.value, means[0])
    np.testing.assert_allclose(measured.second.value, means[1])
    np.testing.assert_allclose(measured.split.value, np.subtract(*means))
    np.testing.assert_allclose(values @ split_weights(cells, CONTEXTS), measured.split.value)
    np.testing.assert_allclose(values @ context_weights(cells, CONTEXTS), np.transpose(means))


def test_shared_units_are_paired():
    cells = LAYOUTS["paired"]
    values = np.random.default_rng(2).normal(size=len(cells))
    measured = contrast(values[None], cells, CONTEXTS, level=0.9)
    first, second = (unit_means(values, cells, context) for context in CONTEXTS)
    expected = reference.ttest_rel(first, second).confidence_interval(0.9)
    np.testing.assert_allclose((measured.split.low[0], measured.split.high[0]), expected)
    assert "paired over the 7 units" in measured.replication
    assert "they speak for new units" in measured.replication


def test_a_unit_in_one_context_alone_stays_out_of_the_pairs():
    cells = cells_of({**UNITS, "lone": 3}, UNITS)
    values = np.random.default_rng(3).normal(size=len(cells)) + 100 * (cells["unit"] == "lone").to_numpy()
    measured = contrast(values[None], cells, CONTEXTS)
    first, second = (unit_means(values, cells, context) for context in CONTEXTS)
    np.testing.assert_allclose(measured.split.value[0], (first - second).mean())
    np.testing.assert_allclose(measured.first.value[0], first.mean())
    np.testing.assert_allclose(values @ split_weights(cells, CONTEXTS), measured.split.value[0])


def test_different_units_give_welchs_interval():
    cells = LAYOUTS["unpaired"]
    values = np.random.default_rng(4).normal(size=len(cells))
    measured = contrast(values[None], cells, CONTEXTS, level=0.9)
    first, second = (unit_means(values, cells, context) for context in CONTEXTS)
    expected = reference.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose((measured.split.low[0], measured.split.high[0]), expected)
    assert "Welch" in measured.replication


@pytest.mark.parametrize("layout", ["few", "mixed"])
def test_too_few_units_resample_cells_and_say_so(layout):
    cells = LAYOUTS[layout]
    values = np.random.default_rng(5).normal(size=(1, len(cells)))
    measured = contrast(values, cells, CONTEXTS)
    assert measured.second.samples is not None
    assert measured.split.samples is not None
    assert (measured.first.samples is None) == (layout == "mixed")
    assert "Fewer than 5 units in" in measured.replication
    assert "not for new donors" in measured.replication


def test_the_contexts_are_resampled_independently():
    cells = pd.DataFrame({"context": np.repeat(CONTEXTS, 6), "unit": "d0"})
    values = np.tile(np.arange(6.0), 2)[None]
    split = contrast(values, cells, CONTEXTS).split
    np.testing.assert_allclose(split.value, 0.0)
    np.testing.assert_allclose(split.samples.std(), np.sqrt(2 * np.arange(6).var(ddof=1) / 6), rtol=0.1)


def test_differences_between_few_units_do_not_widen_the_interval():
    cells = LAYOUTS["few"]
    values = np.where(cells["unit"] == "d0", 5.0, 0.0)[None]
    measured = contrast(values, cells, CONTEXTS)
    np.testing.assert_allclose(measured.first.high - measured.first.low, 0.0, atol=1e-6)


def test_a_context_without_cells_is_refused():
    with pytest.raises(DataError, match="no screened cell is in context 'high'; found low, none"):
        contrast(np.zeros((1, len(LAYOUTS["few"]))), LAYOUTS["few"], ("high", "none"))
