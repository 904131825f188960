"""One prefix, many continuations: attention in which all rows of a cell share the keys and values of its prompt.

A library of D drugs asks D questions about the same cell. Its prefix is run once; each row keeps keys and values of its
own tokens only. Attention adds both parts inside one softmax, so the result equals that of the full sequence, while
memory and traffic fall from ``D x (P + S)`` to ``P + D x S`` keys a cell. What the prompts of a batch begin with alike, the
wording of a task, is run once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from c2s.errors import ModelError
from c2s.models.batching import right_padded
from c2s.models.context import check_context
from c2s.models.prefix_attention import IMPLEMENTATION, PrefixCache, RowCache

_LOGIT_FACTORS = ("logit_scale", "logits_scaling", "logits_scale")  # of Cohere, Granite and the like
ROWS_PER_BATCH = 2048  # at most
BATCH_BYTES = {"cpu": 1 << 31, "cuda": 1 << 32}  # what the rows of a batch may hold; other devices are taken for a CPU
LEAST_COMMON = 16  # tokens that are worth a pass of their own
LONG = 64  # tokens of a row


class PrefixDecoder:
    """Runs a causal LM over shared prefixes and growing rows.

    Parameters
    ----------
    model : PreTrainedModel
        A decoder whose attention goes through transformers' attention interface: causal, over all or a window of tokens.

    Raises
    ------
    ModelError
        The model scales its logits, which :meth:`logits` leaves out. Attention that is not as above is refused when it
        runs.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        factors = [name for name in _LOGIT_FACTORS if getattr(model.config, name, None) not in (None, 1)]
        if factors:
            msg = f"shared-prefix decoding does not support {type(model).__name__}, which scales its logits ({factors[0]})"
            raise ModelError(msg)
        if not getattr(model, "_supports_attention_backend", False):
            msg = (
                f"shared-prefix decoding does not support {type(model).__name__}, whose attention, if it has any, does not go "
                "through transformers' attention interface"
            )
            raise ModelError(msg)
        self.model = model
        self.decoder = model.get_decoder()
        self.n_layers = model.config.num_hidden_layers
        self.device = model.device

    @property
    def bytes_per_place(self) -> int:
        """Bytes of one token's keys and values in all layers."""
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * self.n_layers * heads * width * self.model.dtype.itemsize

    def rows_per_batch(self, places: int, *, beside: int = 0) -> int:
        """Return how many rows make a batch, at most :data:`ROWS_PER_BATCH` and at least one.

        A row holds keys and values of ``places`` tokens and ``beside`` other bytes; a batch holds :data:`BATCH_BYTES`.
        """
        budget = BATCH_BYTES.get(self.device.type, BATCH_BYTES["cpu"])
        return max(1, min(ROWS_PER_BATCH, budget // (places * self.bytes_per_place + beside)))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Use shared-prefix attention within the block, no gradients, evaluation mode; restore what was before."""
        before, training = self.model.config._attn_implementation, self.model.training
        self.model.set_attn_implementation(IMPLEMENTATION)
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.set_attn_implementation(before)
            self.model.train(training)

    def row_cache(self, capacity: int) -> RowCache:
        """Return what keeps keys and values of rows, of ``capacity`` places at most."""
        return RowCache(self.n_layers, capacity)

    def prefix_cache(self, mask: Tensor) -> PrefixCache:
        """Return what keeps keys and values of prefixes, given their real places (C, P)."""
        return PrefixCache(self.n_layers, mask)

    def prefill(self, prefixes: Sequence[Sequence[int]], *, pad: int) -> PrefixCache:
        """Run the prefixes, one per cell (some or all may be empty), and return their keys and values."""
        common = self.common(prefixes)
        ids, mask = right_padded([prefix[common:] for prefix in prefixes], pad, self.device)
        check_context(self.model.config, common + ids.shape[1])
        if not ids.shape[1]:  # one masked place, so that every cell has a prefix
            ids, mask = ids.new_full((len(ids), 1), pad), mask.new_zeros(len(ids), 1)
        rows = self.row_cache(ids.shape[1])
        if common:
            start = self.prefill([prefixes[0][:common]], pad=pad)
            hidden = self.extend(start, rows, ids, mask)
            cache = self.prefix_cache(torch.cat([mask.new_ones(len(ids), common), mask], dim=1))
            cache.keys, cache.values = start.before(rows)
        else:
            cache = self.prefix_cache(mask)
            causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=self.device).tril()
            hidden = self._run(ids, causal & mask[:, None, None, :], cache.far_places, rows, cache)
            cache.keys, cache.values = rows.keys, rows.values
        cache.last = hidden[torch.arange(len(ids), device=self.device), (mask.sum(1) - 1).clamp(min=0)]
        return cache

    def common(self, sequences: Sequence[Sequence[int]], *, most: int | None = None) -> int:
        """Return how many tokens to run once for all sequences, which begin with them: 0 where it would not pay.

        At least one token of each is left, and at most ``most`` are taken.
        """
        config, shortest = self.model.config, min(map(len, sequences))
        limited = getattr(config, "sliding_window", None) or getattr(config, "attn_logit_softcapping", None)
        if len(sequences) < 2 or limited or max(map(len, sequences)) < LEAST_COMMON + LONG:
            return 0
        first, n = sequences[0], 0
        end = shortest - 1 if most is None else min(shortest - 1, most)
        while n < end and all(sequence[n] == first[n] for sequence in sequences):
            n += 1
        return n if n >= LEAST_COMMON and max(map(len, sequences)) - n >= LONG else 0

    def extend(self, prefix: PrefixCache, rows: RowCache | None, ids: Tensor, seen: Tensor) -> Tensor:
        """Run new tokens of every row.

        Parameters
        ----------
        prefix : PrefixCache
            C cells.
        rows : RowCache
            State of R = C x E rows, ordered cell by cell; extended. None keeps nothing of new rows.
        ids : Tensor, shape (R, T), int64
            New tokens.
        seen : Tensor, shape (R, used + T), bool
            Real places of each row, the new ones included.

        Returns
        -------
        Tensor, shape (R, T, width)
            Last hidden states.
        """
        length, each = ids.shape[1], len(ids) // len(prefix.mask)
        check_context(self.model.config, prefix.mask.shape[1] + seen.shape[1])
        places = torch.arange(seen.shape[1], device=self.device)
        causal = places[None, :] <= places[seen.shape[1] - length :, None]
        allowed = causal & seen[:, None, None, :]
        position = (seen.cumsum(-1) - 1).clamp(min=0) + prefix.lengths.repeat_interleave(each)[:, None]
        prefix.leads = (
            length == seen.shape[1] >= LONG and len(prefix.mask) == 1 and bool(seen[:, 0].all() & prefix.mask.all())
        )
        return self._run(ids, allowed, position, rows, prefix)

    def _run(self, ids: Tensor, allowed: Tensor, places: Tensor, rows: RowCache | None, prefix: PrefixCache) -> Tensor:
        before, prefix.places = prefix.calls, places
        out = self.decoder(
            input_ids=ids,
            attention_mask=allowed,
            position_ids=places[:, -ids.shape[1] :],
            past_key_values=rows,
            use_cache=rows is not None,
            prefix=prefix,
        )
        if prefix.calls - before != self.n_layers:
            msg = (
                f"shared-prefix decoding does not support {type(self.model).__name__}: {prefix.calls - before} of its "
                f"{self.n_layers} layers attend through transformers' attention interface"
            )
            raise ModelError(msg)
        if rows is not None:
            rows.used += ids.shape[1]
        return out.last_hidden_state

    def logits(self, hidden: Tensor, tokens: Tensor | slice) -> Tensor:
        """Return the logits of ``tokens`` only, float32, (..., len(tokens)); a slice of them is not copied."""
        head = self.model.get_output_embeddings()
        out = hidden @ head.weight[tokens].T
        if getattr(head, "bias", None) is not None:
            out = out + head.bias[tokens]
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        out = out.float()
        return cap * torch.tanh(out / cap) if cap else out
