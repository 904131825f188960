"""A server on loopback that answers as it is told, one reply after another, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any, dict[str, str], float]  # status, body, headers, seconds before it


class Scripted:
    """What a server says and heard."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Reply]) -> None:
        self.reply, self.asked, self.headers = reply, [], []
        self.lock = threading.Lock()


def answer(text: str, *, finish: str = "stop") -> Reply:
    choice = {"message": {"content": text}, "text": text, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, {}, 0.0


@contextmanager
def served(script: Scripted) -> Iterator[str]:
    """Yield the URL of a running server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with script.lock:
                number = len(script.asked)
                script.asked.append((self.path, body))
                script.headers.append(dict(self.headers))
            status, record, headers, pause = script.reply(body, number)
            time.sleep(pause)
            content = record if isinstance(record, bytes) else json.dumps(record).encode()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
