"""Prompts completed by an OpenAI-compatible server; every answer is kept as it arrives, and asked for once."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests

from c2s.artefacts import hash_of
from c2s.errors import ConfigError, ModelError
from c2s.locks import locked
from c2s.models.backends.base import Completion, cut

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds between two tries
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class OpenAIServer:
    """A server that speaks the OpenAI protocol: vLLM, ``transformers serve``, llama.cpp, or a provider's.

    Draws follow ``seed`` as far as the server honours it. Time-outs, lost connections and answers that say *later* (429 and
    5xx) are tried again, waiting twice as long each time, or as long as the server asks; other refusals are errors at once.

    Parameters
    ----------
    url : str
        Up to and with the version: ``"http://localhost:8000/v1"``.
    model : str
        Its name there.
    cache : path, optional
        JSON lines, one answer each, written to disk as it arrives. What is in it is not asked again, so a run that was cut off
        goes on where it was. Two processes may not share one.
    chat : bool
        Ask ``/chat/completions``, the prompt as the user's message; else ``/completions``.
    api_key_env : str, optional
        Name of the environment variable with the key. The key is neither logged nor stored.
    concurrency : int
        Requests at a time.
    timeout : float
        Seconds to wait for an answer.
    retries : int
        Further tries of a request.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        cache: str | os.PathLike[str] | None = None,
        chat: bool = True,
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 5,
    ) -> None:
        if api_key_env is not None and not os.environ.get(api_key_env):
            msg = f"the environment variable {api_key_env} is not set; it should hold the server's key"
            raise ConfigError(msg)
        if concurrency < 1 or timeout <= 0 or retries < 0:
            msg = f"concurrency={concurrency}, timeout={timeout}, retries={retries}; give at least 1, above 0 and at least 0"
            raise ConfigError(msg)
        self.url, self.model, self.chat = url.rstrip("/"), model, chat
        self.cache = None if cache is None else Path(cache)
        self.api_key_env, self.concurrency, self.timeout, self.retries = api_key_env, concurrency, timeout, retries

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
        """Return ``n`` answers to each prompt; see :class:`c2s.models.backends.base.Backend`.

        Each answer is a request of its own, its seed ``seed + number of the answer``.

        Raises
        ------
        ModelError
            The server refused, or did not answer after all tries. What had arrived is in the cache.
        ArtefactError
            Another process writes the cache.
        """
        settings = {"model": self.model, "max_tokens": max_tokens, "temperature": temperature, "stop": list(stop)}
        asked = [{**settings, "prompt": prompt, "seed": seed + number} for prompt in prompts for number in range(n)]
        keys = [hash_of(self.chat, json.dumps(each, sort_keys=True)) for each in asked]
        with ExitStack() as held:
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.cache.with_name(f".{self.cache.name}.lock"), what=str(self.cache)))
            known = self._known()
            missing = {key: each for key, each in zip(keys, asked, strict=True) if key not in known}
            if missing:
                self._ask(missing, known)
        flat = [known[key] for key in keys]
        return [flat[start : start + n] for start in range(0, len(flat), n)]

    def _ask(self, missing: dict[str, dict[str, Any]], known: dict[str, Completion]) -> None:
        """Ask for what is missing and put it into ``known`` and the cache."""
        writing, stopped = threading.Lock(), threading.Event()
        with ExitStack() as held, ThreadPoolExecutor(self.concurrency) as pool:
            file = None if self.cache is None else held.enter_context(self.cache.open("a", encoding="utf-8"))

            def one(key: str, asked: dict[str, Any]) -> None:
                if stopped.is_set():
                    return
                answer = self._answer(asked)
                with writing:
                    known[key] = answer
                    if file is not None:
                        file.write(json.dumps({"key": key, **asdict(answer)}, ensure_ascii=False) + "\n")
                        file.flush()
                        os.fsync(file.fileno())

            running = [pool.submit(one, key, asked) for key, asked in missing.items()]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
            except BaseException:
                stopped.set()
                raise
            failed = next((each.exception() for each in done if each.exception() is not None), None)
            if failed is not None:
                stopped.set()
                wait(running)
                lacking = sum(key not in known for key in missing)
                kept = (
                    ""
                    if self.cache is None
                    else f"; the others are in {self.cache}, and the same call goes on from there"
                )
                msg = f"{lacking:,} of {len(missing):,} answers are missing: {failed}{kept}"
                raise ModelError(msg) from failed

    def _answer(self, asked: dict[str, Any]) -> Completion:
        """Return one answer, after as many tries as it takes."""
        body = {key: value for key, value in asked.items() if key != "prompt" and value != []}
        body |= (
            {"messages": [{"role": "user", "content": asked["prompt"]}]} if self.chat else {"prompt": asked["prompt"]}
        )
        headers = {"Authorization": f"Bearer {os.environ[self.api_key_env]}"} if self.api_key_env else {}
        url = f"{self.url}/{'chat/' if self.chat else ''}completions"
        for attempt in range(self.retries + 1):
            try:
                response = requests.post(url, json=body, headers=headers, timeout=self.timeout)
                if response.status_code == 200:
                    return _completion(response.json(), asked["stop"], chat=self.chat)
                reason = f"{url} answered {response.status_code}: {response.text[:300].strip()}"
                if response.status_code not in _AGAIN:
                    raise ModelError(reason)
                pause = _asked_for(response.headers.get("Retry-After"))
            except (requests.RequestException, ValueError, KeyError, IndexError, TypeError) as error:
                reason, pause = f"{url}: {type(error).__name__}: {str(error)[:300]}", None
            if attempt < self.retries:
                pause = min(LONGEST_WAIT, 2.0**attempt * (0.5 + random.random() / 2)) if pause is None else pause
                logger.info("%s; again in %.1f s", reason, pause)
                time.sleep(pause)
        msg = f"{reason}, after {self.retries + 1} tries"
        raise ModelError(msg)

    def _known(self) -> dict[str, Completion]:
        """Return the answers in the cache; a last line that was cut off is taken away."""
        if self.cache is None or not self.cache.exists():
            return {}
        found: dict[str, Completion] = {}
        text = self.cache.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            logger.warning("the last line of %s was cut off; it is asked for again", self.cache)
            with self.cache.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                key = record.pop("key")
                found[key] = Completion(**record)
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("line %d of %s is no answer; it is left out", number, self.cache)
        return found


def _completion(record: dict[str, Any], stop: Sequence[str], *, chat: bool) -> Completion:
    choice, usage = record["choices"][0], record.get("usage") or {}
    written = choice["message"]["content"] if chat else choice["text"]
    text, stopped = cut(written or "", stop)
    cut_off = choice.get("finish_reason") == "length" and not stopped
    return Completion(text, "length" if cut_off else "stop", usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _asked_for(seconds: str | None) -> float | None:
    """Return how long a server asks to wait, at most a minute; None where it does not say it in seconds."""
    try:
        return None if seconds is None else max(0.0, min(LONGEST_WAIT, float(seconds)))
    except ValueError:
        return None
