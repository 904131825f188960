"""A real ``transformers serve`` process on loopback: the same answers as in this process, and a server that dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Thread

import pytest
import requests

from c2s.errors import ModelError
from c2s.models.asked_annotation import ask_for_types
from c2s.models.backends.openai_server import OpenAIServer
from c2s.models.backends.transformers_backend import TransformersBackend
from c2s.models.text_lm import TextLM
from tests.models.texts import LABELS, byte_level, cells, transformer

LACKING = [name for name in ("fastapi", "openai", "uvicorn") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f'pip install "c2s[test]": {", ".join(LACKING)} are not installed'),
]
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %} :{% endif %}"
)
PROMPTS = ["MS4A1 CD79A", "The genes are CD3D CD3E IL7R. The cell type is", "LYZ", "GNLY NKG7 GENE3 GENE4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that samples where it is asked to, and has a template of chats."""
    place = tmp_path_factory.mktemp("served") / "model"
    tokenizer = byte_level()
    tokenizer.chat_template = TEMPLATE
    model = transformer("gpt_neox", len(tokenizer))
    model.generation_config.update(do_sample=True, top_k=0, eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def here(folder):
    """The same checkpoint in this process."""
    tokenizer = byte_level()
    return TransformersBackend(transformer("gpt_neox", len(tokenizer)), tokenizer)


@contextmanager
def serving(folder, log, port=None):
    """Yield the process and the URL of a server that answers."""
    port = port or free_port()
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("ab") as out:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 120
        while not healthy(port):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.1)
        yield process, f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def healthy(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=1).ok
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    with serving(folder, tmp_path_factory.mktemp("log") / "server.log") as (_, url):
        yield url


@pytest.mark.parametrize("chat", [True, False])
def test_the_likeliest_answers_are_those_of_this_process(chat, url, folder, here):
    server = OpenAIServer(url, str(folder), chat=chat, concurrency=3)
    found = server.complete(PROMPTS, max_tokens=9, temperature=0.0)
    prompts = [f"{prompt} :" for prompt in PROMPTS] if chat else PROMPTS
    expected = here.complete(prompts, max_tokens=9, temperature=0.0)
    assert [row[0].text for row in found] == [row[0].text for row in expected]
    assert [row[0].finish_reason for row in found] == [row[0].finish_reason for row in expected]
    assert [row[0].n_prompt_tokens for row in found] == [row[0].n_prompt_tokens for row in expected]
    stop = [expected[0][0].text[4]]
    ((cut,),) = server.complete(PROMPTS[:1], max_tokens=9, temperature=0.0, stop=stop)
    ((as_here,),) = here.complete(prompts[:1], max_tokens=9, temperature=0.0, stop=stop)
    assert (cut.text, cut.finish_reason) == (as_here.text, "stop")


def test_draws_come_back_with_their_seed_one_request_at_a_time(url, folder):
    server = OpenAIServer(url, str(folder), chat=False, concurrency=1)
    first, again, other = (server.complete(PROMPTS, max_tokens=9, seed=seed, n=3) for seed in (0, 0, 1))
    assert first == again
    assert not {c.text for row in first for c in row} & {c.text for row in other for c in row}
    assert all(len({c.text for c in row}) == 3 for row in first)


def test_types_are_asked_as_of_the_model_itself(url, folder, here):
    sentences = cells(5)
    model = TextLM(here.model, here.tokens.tokenizer, n_genes=25)
    settings = {"labels": LABELS, "n_genes": 25, "max_tokens": 6}
    there = ask_for_types(OpenAIServer(url, str(folder), chat=False), sentences, **settings)
    assert there.equals(model.answer(sentences, **settings))


def test_the_servers_refusal_is_told(url):
    with pytest.raises(ModelError, match=r"1 of 1 answers are missing: .*answered 400: .*pinned to"):
        OpenAIServer(url, "another").complete(["p"], max_tokens=3)


def test_a_server_that_is_killed_costs_what_it_had_not_answered(folder, tmp_path, here):
    cache, port = tmp_path / "answers.jsonl", free_port()
    prompts = [f"{prompt} GENE{i}" for prompt in PROMPTS for i in range(20)]
    settings = {"max_tokens": 48, "temperature": 0.0}
    client = OpenAIServer(f"http://127.0.0.1:{port}/v1", str(folder), cache=cache, chat=False, retries=0)

    def kept():
        return cache.read_bytes().count(b"\n") if cache.exists() else 0

    def kill_midway(process):
        end = time.monotonic() + 120
        while kept() < 5 and time.monotonic() < end:
            time.sleep(0.005)
        process.kill()

    with serving(folder, tmp_path / "first.log", port) as (process, _):
        killer = Thread(target=kill_midway, args=[process])
        killer.start()
        with pytest.raises(ModelError, match=r"of 80 answers are missing: .*goes on from there") as failed:
            client.complete(prompts, **settings)
        killer.join()
    before = kept()
    assert 5 <= before < 80
    assert str(failed.value).startswith(f"{80 - before} of 80")
    with serving(folder, tmp_path / "second.log", port):
        found = client.complete(prompts, **settings)
    assert kept() == 80
    assert [row[0].text for row in found] == [row[0].text for row in here.complete(prompts, **settings)]
    assert (tmp_path / "second.log").read_text().count("POST /v1/completions") == 80 - before
