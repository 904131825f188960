"""A server that refuses, stalls, breaks off: nothing that arrived is lost, and nothing is asked twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from c2s.errors import ArtefactError, ConfigError, ModelError
from c2s.locks import locked
from c2s.models.asked_annotation import ask_for_types
from c2s.models.backends import answer_file, openai_server
from c2s.models.backends.openai_server import OpenAIServer
from tests.models.backends.scripted import Scripted, answer, served
from tests.models.texts import LABELS, cells


def prompt_of(body):
    return body["messages"][0]["content"] if "messages" in body else body["prompt"]


def echo(body, number):
    return answer(f"answer to {prompt_of(body)}")


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
    assert texts(found) == [[f"answer to p{i}"] * 2 for i in range(3)]
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
    assert texts(found) == [["answer to p"]]
    assert len(script.asked) == 3


def test_refusals_are_errors_at_once_and_the_rest_is_kept(tmp_path):
    def reply(body, number):
        return (400, {"error": "too long"}, {}, 0.0) if prompt_of(body) == "p3" else echo(body, number)

    script, cache = Scripted(reply), tmp_path / "deep" / "answers.jsonl"
    prompts = [f"p{i}" for i in range(6)]
    with served(script) as url:
        server = OpenAIServer(url, "m", cache=cache, concurrency=1)
        with pytest.raises(
            ModelError, match=r"of 6 answers are missing: .*400.*too long.*The prompt was 'p3'.*goes on from there"
        ):
            server.complete(prompts, max_tokens=5)
        kept = len(cache.read_text().splitlines())
        assert kept >= 3
        script.reply = echo
        before = len(script.asked)
        found = server.complete(prompts, max_tokens=5)
        assert len(script.asked) - before == 6 - kept
        assert texts(found) == [[f"answer to {p}"] for p in prompts]
        before = len(script.asked)
        assert server.complete(prompts, max_tokens=5) == found
        assert len(script.asked) == before  # all from the cache
        server.complete(prompts[:1], max_tokens=6)
        assert len(script.asked) == before + 1  # other settings are other answers


def test_how_long_a_server_asks_to_wait():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < openai_server._asked_for(soon) <= 30
    expected = {None: None, "2": 2.0, "1e9": 60.0, "-3": 0.0, "nan": 60.0, "soon": None, "": None}
    expected["Wed, 21 Oct 2015 07:28:00 GMT"] = 0.0
    assert {when: openai_server._asked_for(when) for when in expected} == expected


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="after 2 tries"):
        OpenAIServer("http://127.0.0.1:9/v1", "m", retries=1, timeout=0.5).complete(["p"], max_tokens=5)


def test_no_two_answers_of_runs_share_their_seed():
    script = Scripted(echo)
    with served(script) as url:
        for seed in (0, 1, 2):
            OpenAIServer(url, "m").complete(["p", "q"], max_tokens=5, seed=seed, n=3)
    seeds = [body["seed"] for _, body in script.asked]
    assert len(set(seeds)) == len(seeds) == 18
    assert all(0 <= seed < 1 << 31 for seed in seeds)


@pytest.mark.parametrize("text", ["B\u2028cell", "B\x85cell\x1c", "half a \ud800 pair", "β cell\r\n"])
def test_any_text_is_kept_as_it_is(text, tmp_path):
    script = Scripted(lambda body, number: answer(text))
    with served(script) as url:
        for _ in range(2):
            assert texts(OpenAIServer(url, "m", cache=tmp_path / "a").complete(["p"], max_tokens=5)) == [[text]]
    assert len(script.asked) == 1


def test_a_server_that_does_not_draw_is_noticed(caplog):
    with served(Scripted(echo)) as url:
        OpenAIServer(url, "m").complete(["p", "q"], max_tokens=5, n=2, temperature=0.0)
        assert not caplog.text
        OpenAIServer(url, "m").complete(["p", "q"], max_tokens=5, n=2)
    assert "the 2 answers of each of 2 prompts are one text" in caplog.text
    caplog.clear()
    with served(Scripted(lambda body, number: answer(str(number)))) as url:
        OpenAIServer(url, "m").complete(["p", "q"], max_tokens=5, n=2)
    assert not caplog.text


def test_a_full_disk_costs_no_answer(tmp_path, monkeypatch):
    script, cache, write = Scripted(echo), tmp_path / "a", os.write

    def full(handle, line):
        if b"answer to p1" in line:
            write(handle, line[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, line)

    with served(script) as url:
        server = OpenAIServer(url, "m", cache=cache, concurrency=1)
        monkeypatch.setattr(answer_file.os, "write", full)
        with pytest.raises(ArtefactError, match=r"No space left on device; make room, and call again"):
            server.complete(["p0", "p1", "p2"], max_tokens=5)
        monkeypatch.undo()
        kept = [json.loads(line)["text"] for line in cache.read_text().splitlines()]  # whole lines only
        assert kept[0] == "answer to p0"
        before = len(script.asked)
        assert texts(server.complete(["p0", "p1", "p2"], max_tokens=5)) == [[f"answer to p{i}"] for i in range(3)]
        assert len(script.asked) - before == 3 - len(kept)


def test_ctrl_c_keeps_what_came_and_waits_for_no_further_try(tmp_path):
    def reply(body, number):
        return echo(body, number) if number < 3 else (503, b"busy", {"Retry-After": "60"}, 0.0)

    script, cache = Scripted(reply), tmp_path / "a"
    with served(script) as url:
        code = (
            "import signal\n"
            "from c2s.models.backends.openai_server import OpenAIServer\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # tests that run in the background pass on that it is ignored
            f"server = OpenAIServer({url!r}, 'm', cache={str(cache)!r}, concurrency=2)\n"
            "server.complete([f'p{i}' for i in range(9)], max_tokens=5)"
        )
        client = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 120
        while len(script.asked) < 5:
            assert time.monotonic() < end
            time.sleep(0.02)
        time.sleep(0.2)  # both threads wait for their minute to pass
        begun = time.monotonic()
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert time.monotonic() - begun < 20
    assert len(cache.read_text().splitlines()) == 3


def test_equal_prompts_are_asked_once():
    script = Scripted(echo)
    with served(script) as url:
        found = OpenAIServer(url, "m").complete(["p", "p", "q"], max_tokens=5)
    assert len(script.asked) == 2
    assert texts(found) == [["answer to p"], ["answer to p"], ["answer to q"]]


def test_broken_lines_of_the_cache_are_asked_again(tmp_path, caplog):
    cache, script = tmp_path / "a.jsonl", Scripted(echo)
    with served(script) as url:
        server = OpenAIServer(url, "m", cache=cache, concurrency=1)
        found = server.complete(["p", "q", "r"], max_tokens=5)
        lines = cache.read_text().splitlines(keepends=True)
        broken = b"[]\n\xff\x00\n" + lines[0].replace('"stop"', '"stopp"').encode()
        cache.write_bytes(lines[0].encode() + broken + lines[1].encode() + lines[2][:20].encode())
        for _ in range(2):  # what is asked again stands on a line of its own
            assert server.complete(["p", "q", "r"], max_tokens=5) == found
    assert len(script.asked) == 4
    assert all(f"line {number} of" in caplog.text for number in (2, 3, 4))
    assert "line 1 of" not in caplog.text
    assert "was cut off" in caplog.text
    assert len(cache.read_bytes().splitlines()) == 6


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
    assert texts(found) == [[f"answer to {p}"] for p in prompts]
    assert len(script.asked) - before == 12 - kept


def test_keys_come_from_the_environment_and_stay_there(tmp_path, monkeypatch, caplog):
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        OpenAIServer("http://x/v1", "m", api_key_env="NO_SUCH_KEY")
    monkeypatch.setenv("SOME_KEY", "s3cret")
    script, cache = (
        Scripted(lambda body, number: (500, b"who is s3cret?", {}, 0.0) if number == 0 else echo(body, number)),
        tmp_path / "a",
    )
    caplog.set_level("DEBUG")
    with served(script) as url:
        OpenAIServer(url, "m", api_key_env="SOME_KEY", cache=cache).complete(["p"], max_tokens=5)
    assert script.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in cache.read_text() + caplog.text
    assert "who is ***?" in caplog.text
    script.reply = lambda body, number: (401, b"x" * 280 + b" s3cret", {}, 0.0)
    with served(script) as url, pytest.raises(ModelError, match="answered 401") as refused:
        OpenAIServer(url, "m", api_key_env="SOME_KEY").complete(["p"], max_tokens=5)
    assert "s3" not in str(refused.value)
    monkeypatch.setenv("SOME_KEY", "two\nlines")
    with pytest.raises(ConfigError, match="no key of one line"):
        OpenAIServer("http://x/v1", "m", api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match="give it whole"):
        OpenAIServer("localhost:8000/v1", "m")
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


def test_a_model_that_thinks_is_not_stopped_at_a_line_break():
    script = Scripted(lambda body, number: answer("\n\nB cell"))
    with served(script) as url:
        server = OpenAIServer(url, "m")
        assert not ask_for_types(server, cells(2), labels=LABELS)["parsed"].any()
        assert ask_for_types(server, cells(2), labels=LABELS, stop=())["label"].tolist() == ["B cell"] * 2
    assert {str(body.get("stop")) for _, body in script.asked} == {"['\\n']", "None"}
