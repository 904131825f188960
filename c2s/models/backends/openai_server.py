"""Prompts completed by an OpenAI-compatible server; every answer is kept as it arrives, and asked for once."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests

from c2s.artefacts import hash_of
from c2s.errors import ConfigError, ModelError
from c2s.models.backends.answer_file import AnswerFile, opened
from c2s.models.backends.base import Completion, answer_seed, cut

logger = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds between two tries
_AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})


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
        if not url.startswith(("http://", "https://")):
            msg = f"url={url!r}; give it whole, such as 'http://localhost:8000/v1'"
            raise ConfigError(msg)
        key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
        if api_key_env and not (key and key.isascii() and key.isprintable()):
            msg = f"the environment variable {api_key_env} is not set, or holds no key of one line; it should hold the server's"
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

        Each answer is a request of its own, with a seed of its own (:func:`c2s.models.backends.base.answer_seed`). One that
        was cached is the same again; another server, or the same under other load, may answer otherwise.

        Raises
        ------
        ModelError
            The server refused, or did not answer after all tries. What had arrived is in the cache.
        ArtefactError
            Another process writes the cache, or the disk is full.
        """
        settings = {"model": self.model, "max_tokens": max_tokens, "temperature": temperature, "stop": list(stop)}
        asked = [
            {**settings, "prompt": prompt, "seed": answer_seed(seed, prompt, number)}
            for prompt in prompts
            for number in range(n)
        ]
        keys = [hash_of(self.chat, each) for each in asked]
        with ExitStack() as held:
            kept = None if self.cache is None else held.enter_context(opened(self.cache))
            known = {} if kept is None else kept.known
            missing = {key: each for key, each in zip(keys, asked, strict=True) if key not in known}
            if missing:
                self._ask(missing, known, kept)
        flat = [known[key] for key in keys]
        found = [flat[start : start + n] for start in range(0, len(flat), n)]
        if n > 1 and temperature > 0 and found and all(len({each.text for each in row}) == 1 for row in found):
            logger.warning(
                "the %d answers of each of %d prompts are one text; does the server draw, and does it read seed=? (transformers "
                "serve draws where the checkpoint's generation_config.json says do_sample)", n, len(found),
            )  # fmt: skip
        return found

    def _ask(self, missing: dict[str, dict[str, Any]], known: dict[str, Completion], kept: AnswerFile | None) -> None:
        """Ask for what is missing and put it into ``known`` and the file."""
        writing, stopped = threading.Lock(), threading.Event()

        def one(key: str, asked: dict[str, Any]) -> None:
            if stopped.is_set():
                return
            answer = self._answer(asked, stopped.wait)
            with writing:
                if kept is None:
                    known[key] = answer
                else:
                    kept.add(key, answer)

        with ThreadPoolExecutor(self.concurrency) as pool:
            running = [pool.submit(one, key, asked) for key, asked in missing.items()]
            try:
                done, _ = wait(running, return_when=FIRST_EXCEPTION)
            finally:  # after an error or Ctrl-C nothing new is asked; what is on its way is kept when it comes
                stopped.set()
        failed = next((each.exception() for each in running if each in done and each.exception() is not None), None)
        if isinstance(failed, ModelError):
            lacking = sum(key not in known for key in missing)
            where = "" if kept is None else f"; the others are in {kept.path}, and the same call goes on from there"
            msg = f"{lacking:,} of {len(missing):,} answers are missing: {failed}{where}"
            raise ModelError(msg) from failed
        if failed is not None:
            raise failed

    def _answer(self, asked: dict[str, Any], pausing: Callable[[float], bool]) -> Completion:
        """Return one answer, after as many tries as it takes; ``pausing`` says whether the run was stopped meanwhile."""
        body = {key: value for key, value in asked.items() if key != "prompt" and value != []}
        body |= (
            {"messages": [{"role": "user", "content": asked["prompt"]}]} if self.chat else {"prompt": asked["prompt"]}
        )
        url, key = f"{self.url}/{'chat/' if self.chat else ''}completions", self._key()
        for attempt in range(self.retries + 1):
            again, pause = True, None
            try:
                response = requests.post(url, json=body, timeout=self.timeout, auth=_bearer(key))
                if response.status_code == 200:
                    return _completion(response.json(), asked["stop"], chat=self.chat)
                reason = f"answered {response.status_code}: {response.text.strip()}"
                again, pause = response.status_code in _AGAIN, _asked_for(response.headers.get("Retry-After"))
            except (requests.RequestException, ValueError, LookupError, TypeError) as error:
                reason = f"{type(error).__name__}: {error}"
            reason = f"{url}: {(reason.replace(key, '***') if key else reason):.300}"
            if not again:
                msg = f"{reason}. The prompt was {asked['prompt'][:60]!r}…"
                raise ModelError(msg)
            if attempt < self.retries:
                seconds = min(LONGEST_WAIT, 2.0**attempt * (0.5 + random.random() / 2)) if pause is None else pause
                logger.info("%s; again in %.1f s", reason, seconds)
                if pausing(seconds):
                    msg = f"{reason}; not tried again, for the run was stopped"
                    raise ModelError(msg)
        msg = f"{reason}, after {self.retries + 1} tries"
        raise ModelError(msg)

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""


def _bearer(key: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest] | None:
    """Return what puts the key into a request; as ``auth`` it has precedence over a ``.netrc``."""

    def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {key}"
        return request

    return signed if key else None


def _completion(record: dict[str, Any], stop: Sequence[str], *, chat: bool) -> Completion:
    choice, usage = record["choices"][0], record.get("usage") or {}
    written = choice["message"]["content"] if chat else choice["text"]
    if not isinstance(written, str | None):
        msg = f"the answer's text is {written!r:.100}"
        raise TypeError(msg)
    text, stopped = cut(written or "", stop)
    cut_off = choice.get("finish_reason") == "length" and not stopped
    return Completion(text, "length" if cut_off else "stop", usage.get("prompt_tokens"), usage.get("completion_tokens"))


def _asked_for(when: str | None) -> float | None:
    """Return how long a server asks to wait, in seconds or until a date, at most a minute; None where it says neither."""
    if when is None:
        return None
    try:
        seconds = float(when)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(when) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a time zone
            return None
    return max(0.0, min(LONGEST_WAIT, seconds))
