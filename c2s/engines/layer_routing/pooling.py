"""A prompt as a few means: its tokens in windows of equal size, padding left out."""

from __future__ import annotations

import torch
from torch import Tensor

from c2s.errors import DataError


def window_means(hidden: Tensor, tokens: Tensor, n_windows: int) -> tuple[Tensor, Tensor]:
    """Return the mean hidden state of each window of each row, and which windows there are.

    The t tokens of a row lie in min(n_windows, t) windows, one after the other, whose sizes differ by at most one: token j in window
    ⌊j·w / t⌋. None is left out.

    Parameters
    ----------
    hidden : Tensor, shape (B, T, d)
    tokens : Tensor, shape (B, T), bool
        False where there is padding, wherever it lies.
    n_windows : int

    Returns
    -------
    means : Tensor, shape (B, n_windows, d), float32 or, of hidden states in it, float64
        Zero where there is no window.
    there : Tensor, shape (B, n_windows), bool

    Raises
    ------
    DataError
        A row has no token.
    """
    counts = tokens.sum(1)
    if bool((counts == 0).any()):
        msg = f"row {int((counts == 0).nonzero()[0])} has no token, so there is nothing to decide its plan on; leave it out"
        raise DataError(msg)
    windows = counts.clamp(max=n_windows)
    place = tokens.cumsum(1) - 1
    window = torch.div(place * windows[:, None], counts[:, None], rounding_mode="floor")
    member = torch.nn.functional.one_hot(window.clamp(min=0), n_windows).transpose(1, 2) * tokens[:, None]  # (B, W, T)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    sizes = member.sum(-1, keepdim=True).clamp(min=1)
    visible = hidden.to(dtype).masked_fill(~tokens[..., None], 0.0)  # states of padding may be anything, NaN included
    means = member.to(dtype) @ visible / sizes
    there = torch.arange(n_windows, device=hidden.device) < windows[:, None]
    return means, there
