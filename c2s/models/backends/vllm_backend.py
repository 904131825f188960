"""Prompts completed by vLLM: many at a time, prompts that begin alike computed once, one model or several copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c2s.errors import MissingDependencyError
from c2s.models.backends.base import Completion


class VllmBackend:
    """A model in vLLM's engine, in this process; needs ``pip install "c2s[vllm]"`` and a GPU.

    vLLM gives the same answers for the same seed on the same versions and hardware, but for rounding that depends on the batch.

    Parameters
    ----------
    model : str
        Folder or hub name.
    tensor_parallel_size : int
        GPUs that share one copy of the model.
    **engine
        Further arguments of ``vllm.LLM``.

    Notes
    -----
    Copies of a model on many GPUs or machines are servers: ``vllm serve MODEL --data-parallel-size 8``, asked through
    :class:`c2s.models.backends.openai_server.OpenAIServer`.
    """

    def __init__(self, model: str, *, tensor_parallel_size: int = 1, **engine: Any) -> None:
        try:
            import vllm
        except ImportError as error:
            msg = 'VllmBackend needs vLLM: pip install "c2s[vllm]"'
            raise MissingDependencyError(msg) from error
        settings = {"enable_prefix_caching": True, "tensor_parallel_size": tensor_parallel_size, **engine}
        self._sampling, self._engine = vllm.SamplingParams, vllm.LLM(model=model, **settings)

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
        settings = [
            self._sampling(n=n, max_tokens=max_tokens, temperature=temperature, stop=list(stop), seed=seed + place)
            for place in range(len(prompts))
        ]
        return [
            [
                Completion(
                    each.text,
                    "length" if each.finish_reason == "length" else "stop",
                    len(answer.prompt_token_ids),
                    len(each.token_ids),
                )
                for each in answer.outputs
            ]
            for answer in self._engine.generate(list(prompts), settings)
        ]
