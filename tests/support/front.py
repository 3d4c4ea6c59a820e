"""A small HTTP proxy in front of a real Authnode: to end a client between two requests, and to stand for a stock Authnode.

stock=True stands for what an administrator's client can feel of cfs-server's Authnode (tests/vectors/, recorded from it): none of
our routes, its words for a key that is or is not there, a dropped connection where the caller is not authenticated. It is still
our Authnode behind it, so what it does with keys and capabilities is ours, and `exp` is in its replies.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import wait_for

from cubeauth.errors import AUTHENTICATION_FAILED

Watch = Callable[[int, str], None]
"""Told the number of a request, from 1, and its path. Raises Drop to have the connection closed without a reply."""


class Drop(Exception):
    """No reply to this one."""


def _let_pass(_number: int, _path: str) -> None:
    return None


_STOCK_WORDS = (
    (re.compile(r"^key (\w+) does not exist$"), r"action[GetKey], clusterID[test] ID:\1, err:key not exists "),
    (re.compile(r"^key (\w+) exists$"), r"action[CreateNewKey], clusterID[test] ID:&{\1}, err:duplicate key "),
)


@dataclass
class Front:
    """before, after: around each request at the Authnode. paths: of all requests, as they came."""

    target: str
    stock: bool = False
    before: Watch = _let_pass
    after: Watch = _let_pass
    paths: list[str] = field(default_factory=list)
    address: str = ""
    open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, form: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Raises Drop."""
        with self.lock:
            self.paths.append(path)
            number = len(self.paths)
        self.before(number, path)
        if self.stock and path.startswith("/cubeauth/"):
            status, body = 404, b"404 page not found\n"
        else:
            status, body = self._ask(path, form, headers)
        self.after(number, path)
        return status, body

    def _ask(self, path: str, form: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=20)
        try:
            connection.request("POST", path, body=form, headers=headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        finally:
            connection.close()
        return status, self._in_stocks_words(body) if self.stock else body

    def _in_stocks_words(self, body: bytes) -> bytes:
        reply: dict[str, Any] = json.loads(body)
        if reply["code"] == 0:
            return body
        if reply["msg"] == AUTHENTICATION_FAILED:
            raise Drop
        for pattern, words in _STOCK_WORDS:
            reply["msg"] = pattern.sub(words, reply["msg"])
        return json.dumps(reply).encode()

    def settle(self) -> None:
        """Wait until no request is under way."""
        wait_for("the requests under way to end", lambda: self.open == 0)


class _Handler(BaseHTTPRequestHandler):
    front: Front

    def do_POST(self) -> None:
        with self.front.lock:
            self.front.open += 1
        try:
            form = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = self.front.answer(self.path, form, {"Content-Type": self.headers["Content-Type"]})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (Drop, OSError):
            self.close_connection = True
        finally:
            with self.front.lock:
                self.front.open -= 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def front_of(target: str, *, stock: bool = False) -> Iterator[Front]:
    """A proxy in front of HOST:PORT, on a free port."""
    front = Front(target, stock)
    handler = type("Handler", (_Handler,), {"front": front})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    front.address = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refused_address() -> str:
    """HOST:PORT where nobody listens: the port was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
