"""Latent arithmetic in the style of scGen (Lotfollahi et al., Nature Methods 16, 715; 2019), trained on the cells given.

A variational autoencoder of log1p CP10k; a perturbation is a direction in its latent space, and a predicted cell is what the
decoder makes of the latent mean of a control cell moved in that direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from c2s.baselines.network import warm_up_and_cosine
from c2s.baselines.response_table import Array, Context, TrainingCells
from c2s.baselines.responses import Block, ResponseBaseline, in_blocks
from c2s.errors import ConfigError

if TYPE_CHECKING:
    from c2s.cells.library import Perturbation

_ENCODED = 1024  # cells at once


class _Autoencoder(nn.Module):
    """Two hidden layers each way; the mean cell is where the decoder's output starts."""

    def __init__(self, start: torch.Tensor, *, width: int, latent: int) -> None:
        super().__init__()
        n_genes = len(start)
        self.encoder = nn.Sequential(
            nn.Linear(n_genes, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(width, latent), nn.Linear(width, latent)
        last = nn.Linear(width, n_genes)
        with torch.no_grad():
            last.bias.copy_(start)
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), last)

    def loss(self, cells: torch.Tensor, kl_weight: float) -> torch.Tensor:
        """Return ``|x - x̂|² / 2 + kl_weight * KL(q(z | x), N(0, 1))``, summed over genes, the mean over cells."""
        states = self.encoder(cells)
        mean, log_variance = self.mean(states), self.log_variance(states).clamp(-10.0, 10.0)
        drawn = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return (0.5 * ((cells - self.decoder(drawn)) ** 2).sum(1) + kl_weight * divergence).mean()


class ScgenStyle(ResponseBaseline):
    """A perturbed cell is ``decode(latent mean of the control cell + delta)``.

    The delta of a perturbation is the mean latent of its cells less that of the controls, each context of the same weight. A
    combination that was not seen has the sum of its parts' deltas; a part (or a single perturbation) that was not seen has the
    mean delta of training, the control as a part has none. Contexts differ by their control cells only, so one that was not
    seen is like the others. Cells are what the decoder makes of them, hence smoother than real ones.

    Parameters
    ----------
    width, latent : int
        Of the hidden layers and of the latent space.
    kl_weight : float
        Of the divergence from the prior, against a sum of squares over genes.
    steps, batch_size, learning_rate
        Of AdamW; the rate rises over a tenth of the steps and falls by a cosine.
    """

    name = "latent arithmetic in the style of scGen"
    reads = "parts"

    def __init__(
        self,
        *,
        width: int = 128,
        latent: int = 32,
        kl_weight: float = 0.01,
        steps: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
    ) -> None:
        if min(width, latent, steps, batch_size) < 1 or learning_rate <= 0 or kl_weight < 0:
            msg = "width, latent, steps and batch_size must be at least 1, learning_rate above 0 and kl_weight not below it; "
            msg += f"got {width}, {latent}, {steps}, {batch_size}, {learning_rate}, {kl_weight}"
            raise ConfigError(msg)
        self.width, self.latent, self.kl_weight = width, latent, kl_weight
        self.steps, self.batch_size, self.learning_rate = steps, batch_size, learning_rate

    def _learn(self, training: TrainingCells, seed: int) -> None:
        self._network = self._trained(training.matrix, seed)
        latents = self._encoded(training.matrix)
        base = {context: latents[rows].mean(axis=0) for context, rows in training.controls.items()}
        moves: dict[str, list[Array]] = {}
        for (name, context), rows in training.treated.items():
            moves.setdefault(name, []).append(latents[rows].mean(axis=0) - base[context])
        self._deltas: dict[str, Array] = {name: np.mean(each, axis=0) for name, each in moves.items()}
        self._mean_delta: Array = np.mean(list(self._deltas.values()), axis=0)

    def _respond(
        self, matrix: sp.csr_matrix, contexts: list[Context], perturbations: list[Perturbation], seed: int
    ) -> sp.csr_matrix:
        deltas = np.stack([self._delta(each) for each in perturbations])
        where = next(self._network.parameters()).device

        def decoded(cells: Block, rows: slice) -> Block:
            moved = self._encoded(sp.csr_matrix(cells))[:, None] + deltas
            with torch.no_grad():
                return self._network.decoder(torch.from_numpy(moved.astype(np.float32)).to(where)).cpu().numpy()

        return in_blocks(matrix, len(perturbations), decoded)

    def _delta(self, perturbation: Perturbation) -> Array:
        if perturbation.name in self._deltas:
            return self._deltas[perturbation.name]
        parts = [self._deltas.get(name, self._mean_delta) for name in perturbation.single if name != self._control]
        return np.sum(parts, axis=0)

    def _trained(self, matrix: sp.csr_matrix, seed: int) -> _Autoencoder:
        """Return the autoencoder of the cells; the caller's RNG is untouched."""
        where = "cuda" if torch.cuda.is_available() else "cpu"
        rng = np.random.default_rng([seed, 1])
        start = torch.from_numpy(np.asarray(matrix.mean(axis=0), dtype=np.float32).ravel())
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _Autoencoder(start, width=self.width, latent=self.latent).to(where)
            optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_and_cosine(step, self.steps))
            for _ in range(self.steps):
                rows = rng.integers(matrix.shape[0], size=self.batch_size)
                loss = network.loss(torch.from_numpy(matrix[rows].toarray()).to(where), self.kl_weight)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 10.0)
                optimizer.step()
                schedule.step()
        return network.eval()

    def _encoded(self, matrix: sp.csr_matrix) -> Array:
        """Return latent means, shape (n, latent)."""
        where = next(self._network.parameters()).device
        found = []
        with torch.no_grad():
            for begin in range(0, matrix.shape[0], _ENCODED):
                cells = torch.from_numpy(matrix[begin : begin + _ENCODED].toarray()).to(where)
                found.append(self._network.mean(self._network.encoder(cells)).double().cpu().numpy())
        return np.concatenate(found)
