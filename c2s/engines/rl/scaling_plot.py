"""A held-out curve, the sigmoid through its first part, and what that says of the rest, in words and as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c2s.artefacts import atomic_path
from c2s.engines.rl.forecast import FORECASTS, skill
from c2s.engines.rl.scaling_law import ScalingLaw, fit_scaling_law
from c2s.errors import DataError
from c2s.stats import Interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FittedCurve:
    """A curve and the law fitted to its first part.

    Attributes
    ----------
    compute, reward : ndarray, shape (n,)
        Answers written in training, and mean held-out reward.
    n_fitted : int
        Points that the law was fitted to; it has not seen the others.
    law : ScalingLaw
    band : Interval
        90 %, at every value of ``compute``.
    """

    compute: Array
    reward: Array
    n_fitted: int
    law: ScalingLaw
    band: Interval

    @property
    def inside(self) -> float:
        """Share of the points not seen that lie within the band; nan without any, or where the fit was refused."""
        rest = slice(self.n_fitted, None)
        if self.law.refusal is not None or self.n_fitted == len(self.compute):
            return float("nan")
        return float(np.mean((self.band.low[rest] <= self.reward[rest]) & (self.reward[rest] <= self.band.high[rest])))

    @property
    def width(self) -> float:
        """Width of the band at the last point."""
        return float(self.band.high[-1] - self.band.low[-1])

    def skills(self) -> dict[str, float]:
        """Return the skill over each plain forecast (:data:`~c2s.engines.rl.forecast.FORECASTS`) at the points not seen."""
        seen, rest = slice(None, self.n_fitted), slice(self.n_fitted, None)
        return {
            name: skill(
                self.reward[rest],
                self.band.value[rest],
                plain(self.compute[seen], self.reward[seen], self.compute[rest]),
            )
            for name, plain in FORECASTS.items()
        }

    @property
    def said(self) -> str:
        """The fit in words."""
        if self.law.refusal is not None:
            return f"no fit to the first {self.n_fitted} of {len(self.compute)} points: {self.law.refusal}"
        top = self.law.asymptote
        text = f"ceiling {top.value:.3f} ({top.low:.3f} to {top.high:.3f}), half the gain at {self.law.midpoint.value:,.0f} answers"
        if self.n_fitted < len(self.compute):
            text += (
                f"; of the {len(self.compute) - self.n_fitted} points behind the first {self.n_fitted}, {100 * self.inside:.0f} % lie "
                f"within the 90 % band, which is {self.width:.3f} wide at the end"
            )
        return text


def fitted(
    curve: Sequence[Mapping[str, Any]], *, first: float = 1.0, ceiling: float = 1.0, seed: int = 0
) -> FittedCurve:
    """Return the law of the first part of a held-out curve.

    Parameters
    ----------
    curve : sequence of mapping
        With ``answers`` and ``mean`` (:func:`~c2s.engines.rl.run.read_curve`).
    first : float
        Share of the compute that is fitted.
    ceiling : float
        The greatest reward there is.

    Raises
    ------
    DataError
        A reward is above the ceiling.
    """
    compute = np.array([row["answers"] for row in curve], dtype=np.float64)
    reward = np.array([row["mean"] for row in curve], dtype=np.float64)
    if np.nanmax(reward) > ceiling + 1e-9:
        msg = f"rewards reach {np.nanmax(reward):.3g} and the ceiling is {ceiling:g}; say how great a reward can be (ceiling=, --ceiling)"
        raise DataError(msg)
    n = int((compute <= first * compute[-1]).sum())
    law = fit_scaling_law(compute[:n], reward[:n], ceiling=ceiling, seed=seed)
    return FittedCurve(compute, reward, n, law, law.predict(compute, seed=seed))


def write_curves(path: str | os.PathLike[str], curves: Mapping[str, FittedCurve]) -> None:
    """Write a PNG of the curves: points that were fitted filled, the others open, laws as lines with their bands."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for place, (name, each) in enumerate(curves.items()):
        colour = f"C{place % 10}"
        n, shown = each.n_fitted, each.compute > 0
        axis.plot(each.compute[:n], each.reward[:n], "o", color=colour, ms=4, label=name)
        axis.plot(each.compute[n:], each.reward[n:], "o", color=colour, ms=4, mfc="none")
        if each.law.refusal is None:
            axis.plot(each.compute[shown], each.band.value[shown], color=colour, lw=1.4)
            axis.fill_between(
                each.compute[shown], each.band.low[shown], each.band.high[shown], color=colour, alpha=0.15, lw=0
            )
    axis.set_xscale("symlog", linthresh=max(1.0, min(each.compute[each.compute > 0].min() for each in curves.values())))
    axis.set_xlabel("answers written in training")
    axis.set_ylabel("mean held-out reward")
    axis.set_title("filled: fitted; open: not seen; band: 90 %", loc="left", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
