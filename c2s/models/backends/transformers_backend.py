"""Prompts completed by a transformers model in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from c2s.engines.noise import keyed_gumbel, noise_keys
from c2s.errors import ConfigError
from c2s.models.backends.base import Completion, cut
from c2s.models.batching import TOKENS, by_length
from c2s.models.context import check_context
from c2s.models.prefix import PrefixDecoder
from c2s.models.prefix_attention import RowCache
from c2s.models.sampling import BYTES_PER_TOKEN
from c2s.models.text_tokens import TextTokens

ROWS = 256  # answers written together, at most


class TransformersBackend:
    """A causal language model that is loaded already.

    A prompt is run once for its ``n`` answers. The noise of an answer is its own, by seed, prompt and number of the answer, so
    that it does not depend on batch-mates but for rounding. An answer ends where the tokenizer or the model's generation
    settings say that texts end, as chat models' turns do.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokens = model, TextTokens(tokenizer)
        named = getattr(model.generation_config, "eos_token_id", None)
        named = named if isinstance(named, list) else [named]
        self.ends = frozenset(token for token in (self.tokens.end, *named) if token is not None)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        n: int = 1,
    ) -> list[list[Completion]]:
        """Return ``n`` answers to each prompt; see :class:`c2s.models.backends.base.Backend`."""
        if max_tokens < 1 or n < 1 or not 0 <= temperature < float("inf"):
            msg = f"max_tokens={max_tokens}, n={n}, temperature={temperature}; give at least 1, 1 and 0"
            raise ConfigError(msg)
        ids = [[*self.tokens.front, *each] for each in self.tokens.encode(prompts)]
        if empty := [place for place, each in enumerate(ids) if not each]:
            msg = f"prompt {empty[0]} is empty; a model needs a token to start from"
            raise ConfigError(msg)
        check_context(self.model.config, max(map(len, ids), default=0) + max_tokens)
        keys = noise_keys(seed, prompts, n)
        decoder = PrefixDecoder(self.model)
        beside = BYTES_PER_TOKEN * int(self.model.get_output_embeddings().weight.shape[0])
        rows = max(1, min(ROWS, decoder.rows_per_batch(max_tokens, beside=beside)) // n)
        found: dict[int, list[Completion]] = {}
        with decoder.attached():
            for places, batch in by_length(ids, tokens=TOKENS.get(decoder.device.type, TOKENS["cpu"]), rows=rows):
                written = self._write(decoder, batch, keys[places], max_tokens, temperature, stop)
                for place, prompt, answers in zip(places, batch, written, strict=True):
                    found[place] = [self._completion(answer, len(prompt), stop, max_tokens) for answer in answers]
        return [found[place] for place in range(len(ids))]

    def _write(
        self,
        decoder: PrefixDecoder,
        prompts: Sequence[Sequence[int]],
        keys: np.ndarray,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str],
    ) -> list[list[list[int]]]:
        """Return the tokens of each prompt's answers, ends left out."""
        n_cells, n = keys.shape
        prefix, rows = decoder.prefill(prompts, pad=self.tokens.pad), RowCache(decoder.n_layers, max_tokens)
        hidden = prefix.last.repeat_interleave(n, dim=0)
        flat = torch.from_numpy(keys.reshape(-1).copy()).to(decoder.device)
        written: list[list[int]] = [[] for _ in range(n_cells * n)]
        done = [False] * len(written)
        for place in range(max_tokens):
            chosen = self._choose(decoder, hidden, flat, place, temperature)
            for row, token in enumerate(chosen.tolist()):
                if done[row]:
                    continue
                if token in self.ends:
                    done[row] = True
                    continue
                written[row].append(token)
                done[row] = bool(stop) and cut(self._text(written[row]), stop)[1]
            if all(done):
                break
            seen = torch.ones(len(written), place + 1, dtype=torch.bool, device=decoder.device)
            hidden = decoder.extend(prefix, rows, chosen[:, None], seen)[:, -1]
        return [written[start : start + n] for start in range(0, len(written), n)]

    def _choose(self, decoder: PrefixDecoder, hidden: Tensor, keys: Tensor, place: int, temperature: float) -> Tensor:
        logits = decoder.logits(hidden, slice(None))
        if temperature > 0:
            tokens = torch.arange(logits.shape[-1], device=logits.device)
            logits = logits / temperature + keyed_gumbel(keys, place, tokens)
        return logits.argmax(-1)

    def _completion(self, ids: list[int], n_prompt: int, stop: Sequence[str], max_tokens: int) -> Completion:
        text, stopped = cut(self._text(ids), stop)
        return Completion(text, "stop" if stopped or len(ids) < max_tokens else "length", n_prompt, len(ids))

    def _text(self, ids: list[int]) -> str:
        return str(self.tokens.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
