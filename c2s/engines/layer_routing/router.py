"""The router: for each layer a small perceptron that reads the prompt as it enters the layer and says skip, execute or repeat."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from c2s.artefacts import check_folder, read_record, whole_folder, whole_record, write_json
from c2s.engines.layer_routing.fingerprint import fingerprint
from c2s.engines.layer_routing.hooks import Routing, decided
from c2s.engines.layer_routing.plan import N_ACTIONS, SKIP
from c2s.engines.layer_routing.pooling import window_means
from c2s.engines.layer_routing.routing import RouterDecider
from c2s.engines.layer_routing.support import decoder_of
from c2s.errors import ArtefactError, ConfigError, ModelError

KIND, VERSION = "c2s layer router", 1
_RECORD, _WEIGHTS = "router.json", "router.safetensors"


class Router(nn.Module):
    """A perceptron with one hidden layer for each layer of a decoder, from mean hidden states of windows to three logits.

    Logits of windows are averaged. It has L · (d·h + h + 3·h + 3) parameters, for L layers, hidden size d and bottleneck h. Windows are
    centred and scaled first by means and deviations of the training prompts, which are no parameters (:meth:`standardise`).

    Parameters
    ----------
    n_layers, hidden_size : int
        Of the decoder.
    windows : int
        Into which a prompt is cut.
    bottleneck : int
    seed : int
        Of the first weights.

    Attributes
    ----------
    skip_shift : float
        Added to the logit of skipping (:func:`~c2s.engines.layer_routing.routing.calibrate_depth`).
    base : str or None
        Fingerprint of the decoder it was trained on.

    References
    ----------
    Heakl et al. 2025, Dr.LLM (arXiv 2510.12773); windows there leave out the prompt's last tokens, and every token decides anew.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, n_layers: int, hidden_size: int, *, windows: int = 8, bottleneck: int = 128, seed: int = 0
    ) -> None:
        super().__init__()
        if min(n_layers, hidden_size, windows, bottleneck) < 1:
            msg = f"n_layers={n_layers}, hidden_size={hidden_size}, windows={windows} and bottleneck={bottleneck} must be at least 1"
            raise ConfigError(msg)
        self.n_layers, self.hidden_size, self.windows, self.bottleneck = n_layers, hidden_size, windows, bottleneck
        self.skip_shift = 0.0
        self.base: str | None = None
        draw = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(_glorot(n_layers, bottleneck, hidden_size, draw))
        self.down_bias = nn.Parameter(torch.zeros(n_layers, bottleneck))
        self.up = nn.Parameter(_glorot(n_layers, N_ACTIONS, bottleneck, draw))
        self.up_bias = nn.Parameter(torch.zeros(n_layers, N_ACTIONS))
        self.register_buffer("centre", torch.zeros(n_layers, hidden_size))
        self.register_buffer("scale", torch.ones(n_layers, hidden_size))

    def forward(self, means: Tensor, there: Tensor) -> Tensor:
        """Return the logits of all layers, shape (B, L, 3), as trained: without ``skip_shift``.

        Parameters
        ----------
        means : Tensor, shape (B, L, W, d)
            Windows of what enters each layer.
        there : Tensor, shape (B, W), bool
        """
        scaled = (means - self.centre[:, None]) / self.scale[:, None]
        inner = torch.einsum("blwd,lhd->blwh", scaled, self.down) + self.down_bias[:, None]
        logits = (
            torch.einsum("blwh,lah->blwa", nn.functional.gelu(inner, approximate="tanh"), self.up)
            + self.up_bias[:, None]
        )
        weight = (there / there.sum(-1, keepdim=True))[:, None, :, None].to(logits.dtype)
        return (logits * weight).sum(2)

    def layer_logits(self, layer: int, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits of one layer, shape (B, 3), ``skip_shift`` added, on the device and in the dtype of the router.

        Parameters
        ----------
        layer : int
        hidden : Tensor, shape (B, T, d)
            What enters the layer.
        tokens : Tensor, shape (B, T), bool
            False where there is padding.
        """
        means, there = window_means(hidden, tokens, self.windows)
        means, there = means.to(self.down), there.to(self.down.device)
        scaled = (means - self.centre[layer]) / self.scale[layer]
        inner = nn.functional.gelu(scaled @ self.down[layer].T + self.down_bias[layer], approximate="tanh")
        logits = inner @ self.up[layer].T + self.up_bias[layer]
        weight = (there / there.sum(-1, keepdim=True))[..., None].to(logits.dtype)
        found = (logits * weight).sum(1)
        found[:, SKIP] += self.skip_shift
        return found

    @torch.no_grad()
    def standardise(self, means: Tensor, there: Tensor) -> None:
        """Set centre and scale to those of windows, shapes (B, L, W, d) and (B, W): each direction of each layer counts alike."""
        weight = there[:, None, :, None].to(means.dtype)
        total = weight.sum()
        self.centre.copy_((means * weight).sum((0, 2)) / total)
        spread = (((means - self.centre[:, None]) ** 2) * weight).sum((0, 2)) / total
        self.scale.copy_(spread.sqrt().clamp(min=1e-6))

    @contextmanager
    def attached(self, model: Any, *, other_weights: bool = False) -> Iterator[Routing]:
        """Let the router decide the plan of every sequence the model reads inside the block.

        Each layer is decided as the prompt enters it, once; the plan is kept for all tokens that are generated. Beams and samples of a
        prompt have its plan.

        Parameters
        ----------
        model : PreTrainedModel or PeftModel
            The decoder it was trained on, or one with adapters (LoRA) on it.
        other_weights : bool
            Allow a decoder of the same shape whose own weights differ, such as one whose adapters were merged.

        Raises
        ------
        ModelError
            The decoder is of another shape, has other weights, or cannot be routed.
        """
        decoder = decoder_of(model)
        if (decoder.n_layers, decoder.hidden_size) != (self.n_layers, self.hidden_size):
            msg = f"the router is of {self.n_layers} layers of width {self.hidden_size}; the model has {decoder.n_layers} of width {decoder.hidden_size}"
            raise ModelError(msg)
        if self.base is not None and not other_weights and (found := fingerprint(model)) != self.base:
            msg = f"the router was trained on weights {self.base}; these are {found}. Pass other_weights=True if they are the same model tuned further"
            raise ModelError(msg)
        with decided(model, RouterDecider(self)) as routing:
            yield routing

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write ``router.safetensors`` and ``router.json``, and return the folder; an ArtefactError where it is not free."""
        place = check_folder(folder, overwrite=overwrite)
        with whole_folder(place, overwrite=overwrite) as scratch:
            save_file({name: each.contiguous().cpu() for name, each in self.state_dict().items()}, scratch / _WEIGHTS)
            write_json(
                scratch / _RECORD,
                {
                    "format": KIND, "version": VERSION, "n_layers": self.n_layers, "hidden_size": self.hidden_size,
                    "windows": self.windows, "bottleneck": self.bottleneck, "skip_shift": self.skip_shift, "base": self.base,
                },
            )  # fmt: skip
        return place

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the router in a folder.

        Raises
        ------
        ArtefactError
            There is none, it is damaged, or of a later version.
        """
        path = Path(folder) / _RECORD
        record = read_record(path, kind=KIND, version=VERSION)
        with whole_record(path):
            sizes = {name: int(record[name]) for name in ("windows", "bottleneck")}
            router = cls(int(record["n_layers"]), int(record["hidden_size"]), **sizes)
            router.skip_shift, router.base = float(record["skip_shift"]), record["base"]
        weights = Path(folder) / _WEIGHTS
        try:
            state = load_file(weights)
            if wrong := [name for name, each in state.items() if not bool(each.isfinite().all())]:
                msg = f"{weights} holds {wrong[0]} with values that are not finite; train the router again"
                raise ArtefactError(msg)
            router.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, ArtefactError):
                raise
            msg = f"{weights} cannot be read as the weights of {path} ({error}); train the router again"
            raise ArtefactError(msg) from error
        return router.to(state["down"].dtype)


def _glorot(layers: int, rows: int, columns: int, draw: torch.Generator) -> Tensor:
    bound = math.sqrt(6 / (rows + columns))
    return (torch.rand(layers, rows, columns, generator=draw) * 2 - 1) * bound
