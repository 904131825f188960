"""A masked-diffusion model of cell sentences: genes are written in any order, several a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from c2s.engines.constraint import Constraint
from c2s.engines.elastic_cache.accounting import Accounting
from c2s.engines.elastic_cache.bidirectional import make_bidirectional
from c2s.engines.elastic_cache.decoding import decode
from c2s.engines.elastic_cache.parts import DecoderParts
from c2s.engines.elastic_cache.settings import DecodeSettings
from c2s.engines.elastic_cache.sheet import Request
from c2s.errors import ConfigError
from c2s.models.cell_lm import CellLM

if TYPE_CHECKING:
    from c2s.models.embedding import Passage

AT_ONCE = 16  # answers decoded together


class DiffusionLM(CellLM):
    """A model of cell sentences that fills hidden places from what is on both sides of them.

    It generates cells and perturbed cells like any :class:`~c2s.models.cell_lm.CellLM`, under the same constraint. It gives no likelihoods of
    labels and no vectors.

    Attributes
    ----------
    decoding : DecodeSettings
        How places are filled and what is kept between steps. Every row is run in every step, which is exact, unless it says otherwise.
    accounting : Accounting or None
        What the last call cost.
    """

    def __init__(self, *parts: Any, decoding: DecodeSettings | None = None, **named: Any) -> None:
        super().__init__(*parts, **named)
        self.mask = self.tokens.mask
        make_bidirectional(self.model)
        self.decoding = decoding or DecodeSettings(refresh="always")
        self.accounting: Accounting | None = None

    def cost(self) -> str:
        """Return steps a cell, places a step, and how often the cache was refreshed."""
        if self.accounting is None:
            return ""
        found = self.accounting
        return f"{found.steps.mean():.0f} steps a cell, {found.commits_per_step:.1f} places a step, cache refreshed in {found.refresh_rate:.0%} of steps"

    def __repr__(self) -> str:
        return super().__repr__().replace("CellLM", "DiffusionLM", 1)

    def passages(self, sentences: Any, *, wording: int = 0) -> Iterator[Passage]:
        """Raise a ModelError: what is read of a cell's prompt is the causal model's."""
        self._refuse()

    def gene_passages(self, rows: Any, vocabulary: Any, *, wording: int = 0) -> Any:
        """Raise a ModelError, as :meth:`passages` does."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        self.require_next_token("vectors, attributions and labels of cells")
        raise AssertionError

    def _sampled(
        self, prefixes: Sequence[Sequence[int]], suffixes: Sequence[Sequence[Sequence[int]]], constraint: Constraint,
        keys: np.ndarray, temperature: float,
    ) -> torch.Tensor:  # fmt: skip
        """Return answers, int64 (cells, suffixes, samples, longest)."""
        if not 0 <= temperature < float("inf"):
            msg = f"temperature is {temperature}; give 0 (the most likely token) or a number above it"
            raise ConfigError(msg)
        if self.decoding.temperature or self.decoding.guidance:
            name = "temperature" if self.decoding.temperature else "guidance"
            why = {
                "temperature": "it is an argument of generate and perturb",
                "guidance": "it needs a model that has learnt to answer without a prompt, which none of c2s train has",
            }
            msg = f"decoding says {name}={getattr(self.decoding, name):g}; {why[name]}. Leave it out of the settings"
            raise ConfigError(msg)
        n_cells, each, n_samples = len(prefixes), len(suffixes[0]), keys.shape[1]
        device = self.model.device
        requests = [
            Request(
                torch.tensor([*prefix, *suffix], device=device), constraint.max_length, constraint, int(keys[cell, sample])
            )
            for cell, prefix in enumerate(prefixes) for suffix in suffixes[cell] for sample in range(n_samples)
        ]  # fmt: skip
        parts = DecoderParts.of(self.model, mask_id=self.mask)
        settings = self.decoding.with_(temperature=temperature)
        decoded = [decode(parts, requests[i : i + AT_ONCE], settings) for i in range(0, len(requests), AT_ONCE)]
        costs = [each.accounting for each in decoded]
        self.accounting = Accounting(
            [trace for each in costs for trace in each.traces], costs[0].shape, max(each.state_bytes for each in costs)
        )
        answers = torch.stack([answer.cpu() for batch in decoded for answer in batch.answers])
        return answers.view(n_cells, each, n_samples, -1)
