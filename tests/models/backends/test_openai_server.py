"""A server that refuses, stalls, breaks off: nothing that arrived is lost, and nothing is asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from c2s.errors import ArtefactError, ConfigError, ModelError
from c2s.locks import locked
from c2s.models.asked_annotation import ask_for_types
from c2s.models.backends import openai_server
from c2s.models.backends.openai_server import OpenAIServer
from tests.models.backends.scripted import Scripted, answer, served
from tests.models.texts import LABELS, cells


def prompt_of(body):
    return body["messages"][0]["content"] if "messages" in body else body["prompt"]


def echo(body, number):
    return answer(f"answer to {prompt_of(body)} {body['seed']}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(openai_server.random, "random", lambda: -0.98)  # waits of a hundredth


def texts(found):
    return [[each.text for each in row] for row in found]


@pytest.mark.parametrize("chat", [True, False])
def test_answers_come_in_order_whatever_comes_first(chat):
    def slow_first(body, number):
        status, record, headers, _ = echo(body, number)
        return status, record, headers, 0.2 if prompt_of(body) == "p0" else 0.0

    script = Scripted(slow_first)
    with served(script) as url:
        server = OpenAIServer(url, "m", chat=chat)
        found = server.complete(["p0", "p1", "p2"], max_tokens=9, seed=5, n=2, stop=["#"])
    assert texts(found) == [[f"answer to p{i} {5 + k}" for k in range(2)] for i in range(3)]
    assert (found[0][0].finish_reason, found[0][0].n_prompt_tokens, found[0][0].n_tokens) == ("stop", 3, 2)
    path, body = script.asked[0]
    assert path == ("/v1/chat/completions" if chat else "/v1/completions")
    assert (body["model"], body["max_tokens"], body["temperature"], body["stop"]) == ("m", 9, 1.0, ["#"])


def test_stops_and_lengths():
    with served(Scripted(lambda body, number: answer("B cell\nbecause", finish="length"))) as url:
        ((found,),) = OpenAIServer(url, "m").complete(["p"], max_tokens=5, stop=["\n"])
        ((longer,),) = OpenAIServer(url, "m").complete(["p"], max_tokens=5)
    assert (found.text, found.finish_reason) == ("B cell", "stop")
    assert (longer.text, longer.finish_reason) == ("B cell\nbecause", "length")


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"error": "slow down"}, {"Retry-After": "0.01"}, 0.0),
        (429, {"error": "slow down"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        (503, b"busy", {}, 0.0),
        (200, b"{not json", {}, 0.0),
        (200, {"choices": []}, {}, 0.0),
        (200, {"choices": [{"message": {}}]}, {}, 0.0),
        (200, {}, {}, 1.0),  # a time-out
    ],
    ids=["retry-after", "retry-at", "busy", "no-json", "no-choice", "no-content", "time-out"],
)
def test_what_may_pass_is_tried_again(trouble):
    script = Scripted(lambda body, number: trouble if number < 2 else echo(body, number))
    with served(script) as url:
        found = OpenAIServer(url, "m", concurrency=1, timeout=0.3).complete(["p"], max_tokens=5)
    assert texts(found) == [["answer to p 0"]]
    assert len(script.asked) == 3


def test_refusals_are_errors_at_once_and_the_rest_is_kept(tmp_path):
    def reply(body, number):
        return (400, {"error": "too long"}, {}, 0.0) if prompt_of(body) == "p3" else echo(body, number)

    script, cache = Scripted(reply), tmp_path / "deep" / "answers.jsonl"
    prompts = [f"p{i}" for i in range(6)]
    with served(script) as url:
        server = OpenAIServer(url, "m", cache=cache, concurrency=1)
        with pytest.raises(ModelError, match=r"of 6 answers are missing: .*400.*too long.*goes on from there"):
            server.complete(prompts, max_tokens=5)
        kept = len(cache.read_text().splitlines())
        assert kept >= 3
        script.reply = echo
        before = len(script.asked)
        found = server.complete(prompts, max_tokens=5)
        assert len(script.asked) - before == 6 - kept
        assert texts(found) == [[f"answer to {p} 0"] for p in prompts]
        before = len(script.asked)
        assert server.complete(prompts, max_tokens=5) == found
        assert len(script.asked) == before  # all from the cache
        server.complete(prompts[:1], max_tokens=6)
        assert len(script.asked) == before + 1  # other settings are other answers


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="after 2 tries"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", retries=1, timeout=0.5).complete(["p"], max_tokens=5)


def test_equal_prompts_are_asked_once():
    script = Scripted(echo)
    with served(script) as url:
        found = OpenAIServer(url, "m").complete(["p", "p", "q"], max_tokens=5)
    assert len(script.asked) == 2
    assert texts(found) == [["answer to p 0"], ["answer to p 0"], ["answer to q 0"]]


def test_broken_lines_of_the_cache_are_asked_again(tmp_path, caplog):
    cache, script = tmp_path / "a.jsonl", Scripted(echo)
    with served(script) as url:
        server = OpenAIServer(url, "m", cache=cache, concurrency=1)
        found = server.complete(["p", "q", "r"], max_tokens=5)
        lines = cache.read_text().splitlines(keepends=True)
        cache.write_text(lines[0] + "[]\n" + lines[1] + lines[2][:20])
        assert server.complete(["p", "q", "r"], max_tokens=5) == found
    assert len(script.asked) == 4
    assert "line 2 of" in caplog.text
    assert "was cut off" in caplog.text
    assert [json.loads(line) for line in cache.read_text().splitlines() if line != "[]"]


def test_two_processes_do_not_share_a_cache(tmp_path):
    cache = tmp_path / "a.jsonl"
    with locked(tmp_path / ".a.jsonl.lock", what="it"), pytest.raises(ArtefactError, match="is being written by"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", cache=cache).complete(["p"], max_tokens=5)


def test_a_killed_client_goes_on_where_it_was(tmp_path):
    def slow(body, number):
        status, record, headers, _ = echo(body, number)
        return status, record, headers, 0.15

    script, cache = Scripted(slow), tmp_path / "a.jsonl"
    prompts = [f"p{i}" for i in range(12)]
    with served(script) as url:
        code = (
            "from c2s.models.backends.openai_server import OpenAIServer\n"
            f"OpenAIServer({url!r}, 'm', cache={str(cache)!r}, concurrency=1).complete({prompts!r}, max_tokens=5)"
        )
        client = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
        end = time.monotonic() + 120
        while not (cache.exists() and len(cache.read_text().splitlines()) >= 3):
            assert time.monotonic() < end
            time.sleep(0.02)
        client.send_signal(signal.SIGKILL)
        client.wait()
        kept = len(cache.read_text().splitlines())
        time.sleep(0.3)  # what the server still had
        before = len(script.asked)
        found = OpenAIServer(url, "m", cache=cache).complete(prompts, max_tokens=5)
    assert texts(found) == [[f"answer to {p} 0"] for p in prompts]
    assert len(script.asked) - before == 12 - kept


def test_keys_come_from_the_environment_and_stay_there(tmp_path, monkeypatch, caplog):
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        OpenAIServer("http://x/v1", "m", api_key_env="NO_SUCH_KEY")
    monkeypatch.setenv("SOME_KEY", "s3cret")
    script, cache = (
        Scripted(lambda body, number: (500, b"", {}, 0.0) if number == 0 else echo(body, number)),
        tmp_path / "a",
    )
    caplog.set_level("DEBUG")
    with served(script) as url:
        OpenAIServer(url, "m", api_key_env="SOME_KEY", cache=cache).complete(["p"], max_tokens=5)
    assert script.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in cache.read_text() + caplog.text
    for wrong in ({"concurrency": 0}, {"timeout": 0}, {"retries": -1}):
        with pytest.raises(ConfigError, match="give at least"):
            OpenAIServer("http://x/v1", "m", **wrong)


def test_a_general_model_is_asked_for_types():
    sentences = cells(4)

    def reply(body, number):
        assert prompt_of(body).startswith(f"Answer with one of these, and nothing else: {'; '.join(LABELS)}.")
        return answer("natural killer cell" if number % 2 else "I cannot tell; perhaps a neuron\nor so")

    with served(Scripted(reply)) as url:
        table = ask_for_types(OpenAIServer(url, "m", concurrency=1), sentences, labels=LABELS, tell_labels=True)
    assert table["parsed"].tolist() == [False, True, False, True]
    assert table["label"].tolist() == [None, "natural killer cell"] * 2
    assert table["reason"].iloc[0]
    assert table.index.equals(sentences.obs.index)
