"""Which genes of a cell speak for a label: gradient times input, leaving one gene out, and a figure of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from c2s.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from c2s.cells.genes import GeneVocabulary

Method = Literal["gradient", "leave_one_out"]


def require_method(method: str) -> None:
    """Raise a ConfigError where there is no such method; return None if there is."""
    if method not in get_args(Method):
        msg = f"method={method!r}; choose {' or '.join(map(repr, get_args(Method)))}"
        raise ConfigError(msg)


def gradient_times_input(
    model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], places: Sequence[slice], *, n_tokens: int
) -> np.ndarray:
    """Return Σ x · ∂ log p(answer | prompt) / ∂x over the token embeddings x of each place, float64 (n_places,), nats.

    Parameters
    ----------
    prompt, answer : sequences of token ids
    places : sequence of slice
        Tokens of each gene in the prompt.
    n_tokens : int
        Tokens that compete: the first of the model's outputs.

    Notes
    -----
    First-order estimate of what replacing an embedding by zeros takes off (Shrikumar et al., arXiv:1605.01713).
    """
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
            logits = model(inputs_embeds=embedded, use_cache=False).logits[0, len(prompt) - 1 : -1, :n_tokens].float()
            log_p = torch.log_softmax(logits, dim=-1).gather(1, ids[0, len(prompt) :, None]).sum()
            (gradient,) = torch.autograd.grad(log_p, embedded)
    finally:
        model.train(training)
    each = (gradient.float() * embedded.float()).sum(-1)[0].detach().double().cpu().numpy()
    return np.array([each[place].sum() for place in places])


def attribution_table(genes: np.ndarray, vocabulary: GeneVocabulary, attribution: np.ndarray) -> pd.DataFrame:
    """Return ``rank`` and ``attribution`` of each gene, indexed by symbol."""
    index = pd.Index([vocabulary.symbols[gene] for gene in genes], name="gene")
    return pd.DataFrame({"rank": np.arange(1, len(genes) + 1), "attribution": attribution}, index=index)


def attribution_figure(table: pd.DataFrame, *, n: int = 20, title: str = "") -> Figure:
    """Return a bar chart of the ``n`` genes with the largest attributions of either sign, in nats.

    Parameters
    ----------
    table : DataFrame
        From :meth:`c2s.models.reader.CellReader.attribute`.
    """
    from matplotlib.figure import Figure

    shown = table.loc[table["attribution"].abs().sort_values(ascending=False).index[:n]].sort_values("attribution")
    figure = Figure(figsize=(5.0, 0.6 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = np.where(shown["attribution"] >= 0, "#2166ac", "#b2182b")
    axes.barh(range(len(shown)), shown["attribution"], color=colours)
    axes.set_yticks(range(len(shown)), [f"{gene} ({rank})" for gene, rank in zip(shown.index, shown["rank"])])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("log-likelihood of the label, nats")
    axes.set_ylabel("gene (rank)")
    axes.set_title(title)
    return figure
