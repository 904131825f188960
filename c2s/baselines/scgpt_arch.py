"""scGPT's architecture, trained on the cells given and on nothing else: gene + value embeddings, encoder, start token.

Cui et al., Nature Methods 21, 1470 (2024). Of their pre-training nothing is here; ``scgpt_folder`` loads their weights.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import nn

from c2s.baselines.encoder import EncoderLayer
from c2s.baselines.linear import variable_genes
from c2s.baselines.network import Budget, NetworkAnnotator, Setting
from c2s.baselines.tokens import CLS, FIRST_GENE, Tokens, binned, leading_tokens
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.errors import ConfigError

ValueScale = Literal["bins", "bins / 10", "log1p"]
LARGEST_VALUE = 512.0


class ScgptNetwork(nn.Module):
    """Gene embedding + value embedding, encoder, the state of the start token, and a head of two hidden layers.

    Parameters
    ----------
    n_tokens, n_classes, width, heads, hidden, layers : int
    dropout : float
    pad : int
        Token without a gradient.
    """

    def __init__(
        self, n_tokens: int, n_classes: int, *, width: int, heads: int, hidden: int, layers: int, dropout: float, pad: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.genes = nn.Embedding(n_tokens, width, padding_idx=pad)
        nn.init.uniform_(self.genes.weight, -0.1, 0.1)
        self.norm_genes, self.norm_values = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value_in, self.value_out = nn.Linear(1, width), nn.Linear(width, width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, hidden, dropout=dropout, activation="relu") for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        hidden_layers = [(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)) for _ in range(2)]
        self.head = nn.Sequential(*(part for parts in hidden_layers for part in parts), nn.Linear(width, n_classes))

    def embed(self, ids: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return the state of the start token, (n, width), of ids, values and mask, each (n, length)."""
        scaled = values.clamp(max=LARGEST_VALUE)[..., None]
        beside = self.dropout(self.norm_values(self.value_out(F.relu(self.value_in(scaled)))))
        states = self.norm_genes(self.genes(ids)) + beside
        for layer in self.layers:
            states = layer(states, seen)
        return states[:, 0]

    def forward(self, ids: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return logits of the classes, (n, n_classes)."""
        return self.head(self.embed(ids, values, seen))


class ScgptArchitecture(NetworkAnnotator):
    """scGPT's architecture from random weights: same data, same budget, no pre-training.

    The expressed genes of a cell among the most variable ones are its tokens; where there are more than fit, the highest
    stay. The scale of the values and the learning rate are searched, without which this architecture may stay at chance.

    Parameters
    ----------
    width, heads, layers : int
        Of the encoder; its hidden layer is twice as wide.
    max_len : int
        Tokens a cell, the start among them.
    n_genes : int
        Variable genes.
    dropout : float
    scales : sequence of {"bins", "bins / 10", "log1p"}
        Values tried: 51 bins by quantiles of the cell, the same divided by 10, log1p CP10k.
    learning_rates : sequence of float
        Rates tried with each.
    budget : Budget
    """

    name = "scGPT's architecture, same data, no pre-training"

    def __init__(
        self,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        max_len: int = 201,
        n_genes: int = 2000,
        dropout: float = 0.1,
        scales: tuple[ValueScale, ...] = ("bins / 10", "log1p"),
        learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3),
        budget: Budget | None = None,
    ) -> None:
        super().__init__(Budget() if budget is None else budget)
        if (
            width % heads
            or max_len < 2
            or not set(scales) <= set(get_args(ValueScale))
            or not (scales and learning_rates)
        ):
            msg = f"width must be a multiple of heads, max_len at least 2, scales among {get_args(ValueScale)} and rates given; "
            msg += f"got {width}, {heads}, {max_len}, {scales}, {learning_rates}"
            raise ConfigError(msg)
        self.width, self.heads, self.layers, self.max_len = width, heads, layers, max_len
        self.n_genes, self.dropout, self.scales, self.learning_rates = n_genes, dropout, scales, learning_rates

    def _prepare(self, matrix: sp.csr_matrix) -> None:
        self._chosen = variable_genes(counts_to_log1p_cp10k(matrix), self.n_genes)

    def _settings(self) -> list[Setting]:
        return [{"scale": scale, "learning_rate": rate} for scale in self.scales for rate in self.learning_rates]

    def _tokens(self, matrix: sp.csr_matrix, setting: Setting) -> Tokens:
        chosen = counts_to_log1p_cp10k(matrix)[:, self._chosen]
        values = chosen.data if setting["scale"] == "log1p" else binned(chosen, 51)
        if setting["scale"] == "bins / 10":
            values = values / np.float32(10)
        gene_ids = np.arange(len(self._chosen), dtype=np.int64) + FIRST_GENE
        return leading_tokens(chosen, chosen.data, values, gene_ids, max_len=self.max_len, cls=CLS)

    def _network(self, n_classes: int, setting: Setting) -> nn.Module:
        return ScgptNetwork(
            len(self._chosen) + FIRST_GENE, n_classes, width=self.width, heads=self.heads, hidden=2 * self.width,
            layers=self.layers, dropout=self.dropout,
        )  # fmt: skip
