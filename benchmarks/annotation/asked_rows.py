"""A row for any model behind a server: asked for each cell's type in words, told the labels, trained on no cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from c2s.models.asked_annotation import ask_for_types
from c2s.models.backends.base import Backend
from c2s.models.backends.openai_server import OpenAIServer
from c2s.sentences.encode import encode

N_GENES = 200
CHAT: dict[str, Any] = {"max_tokens": 2048, "stop": ()}  # some think first, and end their turn themselves
COMPLETIONS: dict[str, Any] = {"max_tokens": 32, "stop": ("\n",)}
TIMEOUT = 600.0  # seconds: a server on the same processors takes its time


class Asked:
    """A model that is asked at temperature 0 and answers in words (see :class:`c2s.baselines.annotation.Annotator`).

    Parameters
    ----------
    backend : Backend
    model : str
        What answers, for the row's name.
    **settings
        Of :func:`c2s.models.asked_annotation.ask_for_types`.
    """

    def __init__(self, backend: Backend, model: str, **settings: Any) -> None:
        self.backend, self.settings = backend, {"n_genes": N_GENES, **settings}
        self.setting_ = {"model": model, **self.settings}
        self.name = f"{model}, told the labels, asked in words"
        self.labels: list[str] = []

    def fit(self, adata: AnnData, labels: Any, *, seed: int) -> Self:
        """Keep the labels; ``seed`` decides nothing, since the likeliest answer is taken."""
        self.labels = sorted(set(np.asarray(labels, dtype=str)))
        return self

    def predict_proba(self, adata: AnnData) -> pd.DataFrame:
        """Return 1 for the label of an answer; a row of zeros where it could not be read."""
        sentences = encode(adata, n_genes=self.settings["n_genes"])
        table = ask_for_types(self.backend, sentences, labels=self.labels, tell_labels=True, **self.settings)
        said = table["label"].to_numpy(dtype=object)[:, None] == np.array(self.labels, dtype=object)
        return pd.DataFrame(said.astype(float), index=adata.obs_names, columns=self.labels)


def asked_model(url: str, model: str, *, cache: Path, api_key_env: str | None, chat: bool) -> Asked:
    """Return the row of a model behind a server; its answers are kept in ``cache`` and asked for once."""
    server = OpenAIServer(url, model, cache=cache, api_key_env=api_key_env, chat=chat, timeout=TIMEOUT)
    return Asked(server, model, **(CHAT if chat else COMPLETIONS))
