"""A folder of scGPT weights (vocab.json, args.json, best_model.pt), frozen under a probe or fine-tuned.

The file of weights is read without running code from it. Its decoders are not loaded: annotation asks for none. Names of
tensors are those of both kinds of checkpoint: attention maps as torch has them or as flash-attention has.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from c2s.artefacts import read_json, whole_record
from c2s.baselines.counts import Codes, Probabilities
from c2s.baselines.network import Budget, NetworkAnnotator, Setting
from c2s.baselines.scgpt_arch import ScgptNetwork
from c2s.baselines.tokens import Tokens, binned, leading_tokens
from c2s.cells.genes import listed
from c2s.cells.normalise import counts_to_log1p_cp10k
from c2s.errors import ArtefactError, ConfigError, DataError

Mode = Literal["frozen_probe", "fine_tuned"]
SPECIAL = ("<pad>", "<cls>")
NAMES = {"frozen_probe": "frozen + probe", "fine_tuned": "fine-tuned"}
_OURS = {
    "encoder.embedding": "genes", "encoder.enc_norm": "norm_genes", "value_encoder.linear1": "value_in",
    "value_encoder.linear2": "value_out", "value_encoder.norm": "norm_values",
}  # fmt: skip
_IN_LAYER = {
    "self_attn.in_proj": "attention_in", "self_attn.Wqkv": "attention_in", "self_attn.out_proj": "attention_out",
    "linear1": "up", "linear2": "down", "norm1": "norm_attention", "norm2": "norm_output",
}  # fmt: skip
_LAYER = re.compile(r"transformer_encoder\.layers\.(\d+)\.(.+?)[._](weight|bias)")


class ScgptFolder(NetworkAnnotator):
    """A pre-trained scGPT: logistic regression on its start token, or all of it trained on with a head for the classes.

    Genes are matched to the vocabulary by symbol, others are left out; where more are expressed than fit, the highest
    stay (scGPT itself draws them at random). Values are bins by quantiles of the cell.

    Parameters
    ----------
    folder : path
    mode : {"frozen_probe", "fine_tuned"}
    max_len : int
        Tokens a cell, the start among them.
    learning_rates : sequence of float
        Rates tried in fine-tuning.
    budget : Budget
        Of fine-tuning.

    Raises
    ------
    ArtefactError
        A file is missing, damaged or of other sizes than it says.
    """

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str],
        mode: Mode = "frozen_probe",
        max_len: int = 1200,
        learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4),
        budget: Budget | None = None,
    ) -> None:
        super().__init__(Budget() if budget is None else budget)
        if mode not in get_args(Mode) or max_len < 2 or not learning_rates:
            msg = f"mode is 'frozen_probe' or 'fine_tuned', max_len at least 2 and learning_rates not empty; got {mode!r}, "
            msg += f"{max_len}, {learning_rates}"
            raise ConfigError(msg)
        self.mode, self.max_len, self.learning_rates = mode, max_len, learning_rates
        self.name = f"scGPT checkpoint, {NAMES[mode]}"
        self._vocabulary, self._args, self._weights = read_folder(folder)

    def _prepare(self, matrix: sp.csr_matrix) -> None:
        ids = np.array([self._vocabulary.get(gene, -1) for gene in self.genes_], dtype=np.int64)
        self._chosen = np.flatnonzero(ids >= 0)
        self._ids = ids[self._chosen]
        if not len(self._chosen):
            msg = f"none of the genes is in the vocabulary of the checkpoint; found {listed(self.genes_, 3)}. Pass symbols"
            raise DataError(msg)

    def _settings(self) -> list[Setting]:
        return [{"learning_rate": rate} for rate in self.learning_rates]

    def _tokens(self, matrix: sp.csr_matrix, setting: Setting) -> Tokens:
        chosen = counts_to_log1p_cp10k(matrix)[:, self._chosen]
        pad, cls = (self._vocabulary[token] for token in SPECIAL)
        return leading_tokens(
            chosen, chosen.data, binned(chosen, int(self._args["n_bins"])), self._ids, max_len=self.max_len, cls=cls,
            cls_value=float(self._args["pad_value"]), pad=pad,
        )  # fmt: skip

    def _network(self, n_classes: int, setting: Setting) -> nn.Module:
        return network_of(self._weights, self._args, self._vocabulary, n_classes)

    def _learn(self, matrix: sp.csr_matrix, codes: Codes, seed: int) -> None:
        if self.mode == "fine_tuned":
            super()._learn(matrix, codes, seed)
            return
        from sklearn.linear_model import LogisticRegression

        self._prepare(matrix)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._frozen = network_of(self._weights, self._args, self._vocabulary, len(self.classes_)).eval()
        self._probe = LogisticRegression(C=10.0, max_iter=1000).fit(self._embeddings(matrix), codes)

    def _probabilities(self, matrix: sp.csr_matrix) -> Probabilities:
        if self.mode == "fine_tuned":
            return super()._probabilities(matrix)
        return np.asarray(self._probe.predict_proba(self._embeddings(matrix)), dtype=np.float64)

    def _embeddings(self, matrix: sp.csr_matrix) -> np.ndarray:
        """Return the start token's state of each cell over its length, float32, times the root of the width."""
        tokens = self._tokens(matrix, {})
        order = tokens.by_length()
        found = np.empty((len(tokens), int(self._args["embsize"])), dtype=np.float32)
        with torch.no_grad():
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                found[rows] = nn.functional.normalize(self._frozen.embed(*tokens.batch(rows)), dim=1).numpy()
        return found * np.sqrt(found.shape[1])


def read_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, int], dict[str, Any], dict[str, torch.Tensor]]:
    """Return the vocabulary, the arguments and the weights under the names of :class:`ScgptNetwork`, without its head.

    Raises
    ------
    ArtefactError
        A file is missing or damaged, or tensors that the network needs are not there.
    """
    place = Path(folder)
    vocabulary, args = read_json(place / "vocab.json"), read_json(place / "args.json")
    with whole_record(place / "vocab.json"):
        vocabulary = {str(token): int(number) for token, number in vocabulary.items()}
        for token in SPECIAL:  # as scGPT does where a vocabulary lacks them
            vocabulary.setdefault(token, max(vocabulary.values()) + 1)
    with whole_record(place / "args.json"):
        needed = ("embsize", "nheads", "d_hid", "nlayers")
        args = {**{name: int(args[name]) for name in needed}, "n_bins": args.get("n_bins") or 51,
                "pad_value": args.get("pad_value", -2), "dropout": float(args.get("dropout", 0.2))}  # fmt: skip
    path = place / "best_model.pt"
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        msg = f"no file {path}; a folder of scGPT holds vocab.json, args.json and best_model.pt"
        raise ArtefactError(msg) from error
    except Exception as error:
        msg = f"{path} cannot be read as weights ({type(error).__name__}: {error}); fetch it again"
        raise ArtefactError(msg) from error
    named = {our_name(name): tensor.float() for name, tensor in weights.items() if our_name(name)}
    return vocabulary, args, {name: tensor for name, tensor in named.items() if name}


def our_name(name: str) -> str | None:
    """Return the name in :class:`ScgptNetwork` of a tensor of a checkpoint, None for one that annotation does not need."""
    name = name.removeprefix("module.")
    module, _, kind = name.rpartition(".")
    if module in _OURS:
        return f"{_OURS[module]}.{kind}"
    found = _LAYER.fullmatch(name)
    if found and found[2] in _IN_LAYER:
        return f"layers.{found[1]}.{_IN_LAYER[found[2]]}.{found[3]}"
    return None


def network_of(
    weights: dict[str, torch.Tensor], args: dict[str, Any], vocabulary: dict[str, int], n_classes: int
) -> ScgptNetwork:
    """Return the network with the weights of a checkpoint and a new head.

    Raises
    ------
    ArtefactError
        A tensor is missing or of another shape than the arguments say.
    """
    network = ScgptNetwork(
        max(max(vocabulary.values()) + 1, len(weights.get("genes.weight", ()))), n_classes, width=args["embsize"],
        heads=args["nheads"], hidden=args["d_hid"], layers=args["nlayers"], dropout=args["dropout"],
        pad=vocabulary[SPECIAL[0]],
    )  # fmt: skip
    own = network.state_dict()
    wanted = {name: tensor.shape for name, tensor in own.items() if not name.startswith("head.")}
    missing = sorted(name for name in wanted if name not in weights)
    other = sorted(
        f"{name} {tuple(weights[name].shape)}, not {tuple(shape)}"
        for name, shape in wanted.items()
        if name in weights and weights[name].shape[name == "genes.weight" :] != shape[name == "genes.weight" :]
    )
    extra = sorted(set(weights) - set(wanted))
    if missing or other or extra:
        msg = f"the weights do not fit the arguments: missing {listed(missing, 3) or 'none'}; of other shape "
        msg += (
            f"{listed(other, 3) or 'none'}; too many {listed(extra, 3) or 'none'}. Use the args.json of this checkpoint"
        )
        raise ArtefactError(msg)
    for name in wanted:
        own[name][: len(weights[name])] = weights[name]
    network.load_state_dict(own)
    return network
