"""What routers must beat at equal depth: static removal of layers (ShortGPT, TALE, by lot), and early exit by confidence.

A router that decides anew at every token is not among them: its gaps in the cache need another decoder than this one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from c2s.engines.layer_routing.decisions import Reading
from c2s.engines.layer_routing.hooks import Routing, decided
from c2s.engines.layer_routing.plan import EXECUTE, SKIP, LayerPlan
from c2s.engines.layer_routing.rewards import Reward
from c2s.engines.layer_routing.searching import GreedySearcher
from c2s.engines.layer_routing.support import Decoder, decoder_of
from c2s.errors import ConfigError, DataError, ModelError


def block_influence(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> NDArray[np.float64]:
    """Return how much each layer changes what enters it: 1 − mean cosine of a token's state before and behind it, shape (L,).

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
    batches : iterable of mapping
        ``input_ids`` and ``attention_mask``; padding is left out.

    Raises
    ------
    DataError
        There is no batch, or no token in any.

    References
    ----------
    Men et al. 2024, ShortGPT (arXiv 2403.03853).
    """
    layers = decoder_of(model).layers
    total, count = torch.zeros(len(layers), dtype=torch.float64), 0

    def compare(index: int, tokens: Tensor) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], left: Tensor) -> None:
            cosines = nn.functional.cosine_similarity(args[0].double(), left.double(), dim=-1)
            total[index] += cosines[tokens.to(cosines.device)].sum().cpu()

        return hook

    for batch in batches:
        tokens = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        count += int(tokens.sum())
        with ExitStack() as stack, torch.no_grad():
            for index, layer in enumerate(layers):
                stack.callback(layer.register_forward_hook(compare(index, tokens)).remove)
            model(**batch, use_cache=False)
    if not count:
        msg = "there is no token to measure the influence of layers on; give at least one batch"
        raise DataError(msg)
    return 1 - (total / count).numpy()


def shortgpt(influence: NDArray[np.float64], *, depth: int) -> LayerPlan:
    """Return the plan that keeps the ``depth`` layers of most influence (:func:`block_influence`); of equals the earlier."""
    _check_depth(len(influence), depth)
    kept = np.argsort(-np.asarray(influence), kind="stable")[:depth]
    return _keeping(len(influence), kept)


def tale(reward: Reward, n_layers: int, *, depth: int) -> LayerPlan:
    """Return the plan of ``depth`` layers that greedy removal arrives at, whether it helps or not; reward is of a whole task.

    It costs about (n² − depth²) / 2 rewards. To stop where no removal helps: ``search(..., method="greedy")``.
    """
    _check_depth(n_layers, depth)
    searcher = GreedySearcher(n_layers, to_depth=depth)
    while (plan := searcher.ask()) is not None:
        searcher.tell(plan, reward(plan))
    return searcher.current


def random_removal(n_layers: int, *, depth: int, seed: int) -> LayerPlan:
    """Return a plan that keeps ``depth`` layers drawn by lot."""
    _check_depth(n_layers, depth)
    return _keeping(n_layers, np.random.default_rng(seed).permutation(n_layers)[:depth])


class ConfidenceExit:
    """Skips all further layers of a sequence once the head is sure of its next token.

    Parameters
    ----------
    decoder : Decoder
    threshold : float
        Least probability of the most probable token behind the prompt.
    first : int
        Layers run in any case.
    """

    def __init__(self, decoder: Decoder, threshold: float, first: int) -> None:
        self.decoder, self.threshold, self.first = decoder, threshold, first

    def decide(self, layer: int, hidden: Tensor, reading: Reading) -> Tensor:
        """Return skip for the rows that have left or leave now."""
        if layer < self.first:
            return torch.full((len(hidden),), EXECUTE, dtype=torch.int8)
        tokens = reading.tokens(hidden)
        places = torch.arange(tokens.shape[1], device=hidden.device)
        last = (tokens * places).argmax(1)
        with torch.no_grad():
            logits = self.decoder.head(hidden[torch.arange(len(hidden), device=hidden.device), last])
        top, place = logits.double().max(-1, keepdim=True)
        others = logits.double().scatter(-1, place, -torch.inf).logsumexp(-1)
        odds = (
            math.log(self.threshold / (1 - self.threshold))
            if 0 < self.threshold < 1
            else math.inf * (self.threshold or -1)
        )
        sure = (top[:, 0] - others > odds).cpu()  # in log-odds: probabilities near 1 are all alike
        left = reading.actions[:, layer - 1] == SKIP
        return torch.where(sure | left, SKIP, EXECUTE).to(torch.int8)


@contextmanager
def early_exit(model: Any, *, threshold: float, first: int = 1) -> Iterator[Routing]:
    """Let sequences leave a decoder early: the plan of each ends where the head, put behind a layer, is sure of the prompt's next token.

    Parameters
    ----------
    model : PreTrainedModel or PeftModel
        With a language modelling head.
    threshold : float
        Probability of the most probable token, at the last position of the prompt, above which no further layer is run.
    first : int
        Layers run in any case, at least 1.

    Raises
    ------
    ConfigError
        ``threshold`` lies outside 0 … 1, or ``first`` outside the layers.
    ModelError
        The model has no head, or cannot be routed.
    """
    decoder = decoder_of(model)
    if not 0 <= threshold <= 1 or not 1 <= first <= decoder.n_layers:
        msg = f"threshold={threshold} must lie between 0 and 1, and first={first} between 1 and the {decoder.n_layers} layers"
        raise ConfigError(msg)
    if decoder.model.get_output_embeddings() is None:
        msg = f"{type(decoder.model).__name__} has no language modelling head to be sure by; load it with one"
        raise ModelError(msg)
    with decided(model, ConfidenceExit(decoder, threshold, first)) as routing:
        yield routing


def _keeping(n_layers: int, kept: NDArray[np.intp]) -> LayerPlan:
    actions = np.full(n_layers, SKIP)
    actions[kept] = EXECUTE
    return LayerPlan(actions.tolist())


def _check_depth(n_layers: int, depth: int) -> None:
    if not 0 <= depth <= n_layers:
        msg = f"depth={depth} must lie between 0 and the {n_layers} layers there are"
        raise ConfigError(msg)
