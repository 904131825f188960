"""Settings of router training."""

from __future__ import annotations

from pydantic import Field

from c2s.config import Config, Seed


class RouterSettings(Config):
    """How routers are built and trained.

    Attributes
    ----------
    windows : int
        Into which a prompt is cut.
    bottleneck : int
        Width of the perceptrons.
    focusing : float
        γ of the focal loss; 0 gives cross-entropy.
    class_balance : float
        β of the effective number of labels, (1 − βⁿ) / (1 − β); 0 weighs classes alike.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls as a cosine behind the warm-up.
    warmup : float
        Share of the updates in which the rate rises.
    epochs : int
    batch_size : int
        Prompts an update.
    seed : int
        Of weights and order.
    """

    windows: int = Field(8, ge=1)
    bottleneck: int = Field(128, ge=1)
    focusing: float = Field(2.0, ge=0)
    class_balance: float = Field(0.999, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    epochs: int = Field(25, ge=1)
    batch_size: int = Field(16, ge=1)
    seed: Seed = 0
