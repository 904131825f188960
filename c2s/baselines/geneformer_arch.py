"""Geneformer's architecture, trained on the cells given and on nothing else: genes by relative rank, BERT encoder.

Theodoris et al., Nature 618, 616 (2023). A gene's count is divided by the cell's total and by the gene's median over the
training cells that express it; genes in falling order are the tokens, and only their order tells of expression.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import nn

from c2s.baselines.encoder import EncoderLayer
from c2s.baselines.network import Budget, NetworkAnnotator, Setting
from c2s.baselines.tokens import CLS, FIRST_GENE, Tokens, leading_tokens
from c2s.errors import ConfigError

Pooling = Literal["cls", "mean"]
EPS = 1e-12  # BERT's layer norms


class GeneformerNetwork(nn.Module):
    """Token + position embeddings, a BERT encoder, and a linear head on the start token (through BERT's tanh) or the mean.

    Parameters
    ----------
    n_tokens, n_classes, width, heads, hidden, layers, max_len : int
    dropout : float
    pooling : {"cls", "mean"}
    """

    def __init__(
        self, n_tokens: int, n_classes: int, *, width: int, heads: int, hidden: int, layers: int, max_len: int,
        dropout: float, pooling: Pooling,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pooling = pooling
        self.genes = nn.Embedding(n_tokens, width, padding_idx=0)
        self.positions = nn.Embedding(max_len, width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, hidden, dropout=dropout, activation="gelu", eps=EPS) for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def embed(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return a vector a cell, (n, width), of ids and mask, each (n, length)."""
        places = torch.arange(ids.shape[1], device=ids.device)
        states = self.dropout(self.norm(self.genes(ids) + self.positions(places)))
        for layer in self.layers:
            states = layer(states, seen)
        if self.pooling == "cls":
            return torch.tanh(self.pool(states[:, 0]))
        return (states * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)

    def forward(self, ids: torch.Tensor, values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return logits of the classes, (n, n_classes); values are not read."""
        return self.head(self.dropout(self.embed(ids, seen)))


class GeneformerArchitecture(NetworkAnnotator):
    """Geneformer's architecture from random weights: same data, same budget, no pre-training.

    Pooling and learning rate are searched.

    Parameters
    ----------
    width, heads, layers : int
        Of the encoder; its hidden layer is twice as wide.
    max_len : int
        Tokens a cell, the start among them.
    min_cells : int
        Training cells that must express a gene for it to be a token.
    dropout : float
    poolings, learning_rates : sequences
        Tried with one another.
    budget : Budget
    """

    name = "Geneformer's architecture, same data, no pre-training"

    def __init__(
        self,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        max_len: int = 201,
        min_cells: int = 3,
        dropout: float = 0.1,
        poolings: tuple[Pooling, ...] = ("mean", "cls"),
        learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3),
        budget: Budget | None = None,
    ) -> None:
        super().__init__(Budget() if budget is None else budget)
        if (
            width % heads
            or max_len < 2
            or not set(poolings) <= set(get_args(Pooling))
            or not (poolings and learning_rates)
        ):
            msg = f"width must be a multiple of heads, max_len at least 2, poolings among {get_args(Pooling)} and rates given; "
            msg += f"got {width}, {heads}, {max_len}, {poolings}, {learning_rates}"
            raise ConfigError(msg)
        self.width, self.heads, self.layers, self.max_len = width, heads, layers, max_len
        self.min_cells, self.dropout = min_cells, dropout
        self.poolings, self.learning_rates = poolings, learning_rates

    def _prepare(self, matrix: sp.csr_matrix) -> None:
        cells = matrix.getnnz(axis=0)
        self._chosen = np.flatnonzero(cells >= min(self.min_cells, int(cells.max())))
        by_gene = sp.csr_matrix((_shares(matrix), matrix.indices, matrix.indptr), shape=matrix.shape).tocsc()
        self._medians = np.array(
            [np.median(by_gene.data[by_gene.indptr[g] : by_gene.indptr[g + 1]]) for g in self._chosen]
        )

    def _settings(self) -> list[Setting]:
        return [
            {"pooling": pooling, "learning_rate": rate} for pooling in self.poolings for rate in self.learning_rates
        ]

    def _tokens(self, matrix: sp.csr_matrix, setting: Setting) -> Tokens:
        shares = sp.csr_matrix((_shares(matrix), matrix.indices, matrix.indptr), shape=matrix.shape)[:, self._chosen]
        order = shares.data / self._medians[shares.indices]
        gene_ids = np.arange(len(self._chosen), dtype=np.int64) + FIRST_GENE
        return leading_tokens(shares, order, np.zeros(shares.nnz), gene_ids, max_len=self.max_len, cls=CLS)

    def _network(self, n_classes: int, setting: Setting) -> nn.Module:
        return GeneformerNetwork(
            len(self._chosen) + FIRST_GENE, n_classes, width=self.width, heads=self.heads, hidden=2 * self.width,
            layers=self.layers, max_len=self.max_len, dropout=self.dropout, pooling=setting["pooling"],
        )  # fmt: skip


def _shares(matrix: sp.csr_matrix) -> NDArray[np.float64]:
    """Return each entry's share of its cell's counts."""
    totals = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    return matrix.data / np.repeat(totals, np.diff(matrix.indptr))
