"""The transformer encoder that scGPT's and Geneformer's architectures share: full attention, layer norm after each sum.

Padding is masked, so a cell's states do not depend on its batch-mates.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

Activation = Literal["relu", "gelu"]


class EncoderLayer(nn.Module):
    """Attention, then two linear maps, each added to its input and normalised (Vaswani et al. 2017).

    Parameters
    ----------
    width, heads, hidden : int
        Of the states, of the attention, and between the two linear maps.
    dropout : float
        Within and after the linear maps and after attention, while training; of the weights of attention none is dropped,
        which would double the time on a processor.
    activation : {"relu", "gelu"}
    eps : float
        Of the layer norms.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, dropout: float, activation: Activation, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.heads = heads
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width, eps=eps)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm_output = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.activation = F.relu if activation == "relu" else F.gelu

    def forward(self, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Return states (n, length, width) of states and the mask (n, length), true where there is a token."""
        n, length, width = states.shape
        parts = self.attention_in(states).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
        mixed = self.attention_out(mixed.transpose(1, 2).reshape(n, length, width))
        states = self.norm_attention(states + self.dropout(mixed))
        return self.norm_output(states + self.dropout(self.down(self.dropout(self.activation(self.up(states))))))
