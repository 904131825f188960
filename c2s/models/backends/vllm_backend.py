"""Prompts completed by vLLM: many at a time, prompts that begin alike computed once, one model or several copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c2s.errors import ConfigError, MissingDependencyError
from c2s.models.backends.base import Completion, answer_seed


class VllmBackend:
    """A model in vLLM's engine, in this process; needs ``pip install "c2s[vllm]"`` and a GPU.

    vLLM gives the same answers for the same seed on the same versions and hardware, but for rounding that depends on the batch.
    Written against vLLM's documented interface and tested with a stand-in for it.

    Parameters
    ----------
    model : str
        Folder or hub name.
    tensor_parallel_size : int
        GPUs that share one copy of the model.
    **engine
        Further arguments of ``vllm.LLM``.

    Raises
    ------
    MissingDependencyError
        vLLM is not installed.
    ConfigError
        ``data_parallel_size`` above 1: vLLM has no copies of a dense model in one process. Copies on many GPUs or machines
        are servers, ``vllm serve MODEL --data-parallel-size 8``, asked through
        :class:`c2s.models.backends.openai_server.OpenAIServer`.
    """

    def __init__(self, model: str, *, tensor_parallel_size: int = 1, **engine: Any) -> None:
        if engine.get("data_parallel_size", 1) != 1:
            msg = (
                f"data_parallel_size={engine['data_parallel_size']}: copies of a model are servers; run "
                f"`vllm serve {model} --data-parallel-size {engine['data_parallel_size']}` and ask it by OpenAIServer"
            )
            raise ConfigError(msg)
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
            self._sampling(
                n=n, max_tokens=max_tokens, temperature=temperature, stop=list(stop), seed=answer_seed(seed, prompt)
            )
            for prompt in prompts
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
