"""A real ``transformers serve`` on loopback answers what the same model answers in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from transformers.utils.import_utils import is_serve_available

from c2s.models.backends.openai_server import OpenAIServer
from c2s.models.backends.transformers_backend import TransformersBackend
from tests.models.texts import byte_level, transformer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason="optional: pip install 'transformers[serving]'"),
]
PROMPTS = ["MS4A1 CD79A", "CD3D CD3E IL7R", "LYZ"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("checkpoint"), byte_level()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    model = transformer("gpt_neox", len(tokenizer), eos_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


@pytest.fixture(scope="module")
def server(checkpoint):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server does not answer"
            try:
                requests.get(f"{url}/health", timeout=1)
                break
            except requests.RequestException:
                time.sleep(0.3)
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("chat", [True, False])
def test_greedy_answers_of_a_real_server(server, checkpoint, chat, tmp_path):
    folder, model, tokenizer = checkpoint
    cache = tmp_path / "a.jsonl"
    remote = OpenAIServer(server, str(folder), chat=chat, cache=cache, concurrency=2, timeout=120, retries=2)
    found = remote.complete(PROMPTS, max_tokens=8, temperature=0.0)
    expected = TransformersBackend(model, tokenizer).complete(PROMPTS, max_tokens=8, temperature=0.0)
    assert [each.text for (each,) in found] == [each.text for (each,) in expected]
    assert len(cache.read_text().splitlines()) == len(PROMPTS)
    assert remote.complete(PROMPTS, max_tokens=8, temperature=0.0) == found
