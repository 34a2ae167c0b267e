"""An HTTP proxy on loopback in front of an S3 server, which loses what a test tells it to lose."""

import http.client
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Exchange:
    """One request under way: a fault forwards it, answers it, cuts it off, or does several of these."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    upstream: str
    connection: socket.socket

    def forward(self) -> Answer:
        """Let the server have the request."""
        with closing(http.client.HTTPConnection(self.upstream, timeout=30)) as server:
            server.request(self.method, self.path, self.body, self.headers)
            answer = server.getresponse()
            return Answer(answer.status, answer.read(), tuple(answer.getheaders()))

    def answer(self, answer: Answer, upto: int | None = None) -> None:
        """Answer the client; `upto` breaks the body off after so many bytes."""
        lines = [f"HTTP/1.1 {answer.status} Answer"]
        length = None
        for name, value in answer.headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("transfer-encoding", "connection"):
                lines.append(f"{name}: {value}")
        if self.method != "HEAD" or length is None:
            length = str(len(answer.body))
        lines += [f"Content-Length: {length}", "Connection: close", "", ""]
        self.connection.sendall("\r\n".join(lines).encode() + answer.body[:upto])

    def cut(self) -> None:
        """Close the connection."""
        self.connection.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Exchange], None]


def passed_on(exchange: Exchange) -> None:
    """No fault."""
    exchange.answer(exchange.forward())


def request_lost(exchange: Exchange) -> None:
    """The server never sees it."""
    exchange.cut()


def answer_lost(exchange: Exchange) -> None:
    """The server carries it out; the client never learns."""
    exchange.forward()
    exchange.cut()


def broken_off(exchange: Exchange) -> None:
    """The answer ends in its middle."""
    answer = exchange.forward()
    exchange.answer(answer, upto=len(answer.body) // 2)
    exchange.cut()


def answered(status: int, code: str, *, landed: bool = False) -> Fault:
    """The client gets this error, whether or not the server carried it out."""

    def fault(exchange: Exchange) -> None:
        if landed:
            exchange.forward()
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>So it is.</Message></Error>"
        exchange.answer(Answer(status, body.encode(), (("Content-Type", "application/xml"),)))

    return fault


@dataclass
class Proxy:
    """Passes every request on, but for the faults it was given; remembers what it was asked."""

    endpoint: str
    upstream: str
    asked: list[Exchange] = field(default_factory=list)
    _faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    _always: dict[str, Fault] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    @contextmanager
    def before(cls, endpoint: str) -> "Iterator[Proxy]":
        """Listen on loopback as long as the context lasts."""
        server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
        proxy = cls(f"http://127.0.0.1:{server.server_port}", urlsplit(endpoint).netloc)
        server.RequestHandlerClass = handler_of(proxy)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def on(self, method: str, *faults: Fault) -> None:
        """Do this to the next requests of that method, one after the other."""
        self._faults[method].extend(faults)

    def always_on(self, method: str, fault: Fault) -> None:
        """Do this to every further request of that method."""
        self._always[method] = fault

    def forget(self) -> None:
        """Begin anew: no faults, nothing asked."""
        self.asked.clear()
        self._faults.clear()
        self._always.clear()

    def count(self, method: str) -> int:
        """How many requests of that method there were."""
        return sum(exchange.method == method for exchange in self.asked)

    def take(self, exchange: Exchange) -> None:
        with self._lock:
            self.asked.append(exchange)
            waiting = self._faults[exchange.method]
            fault = waiting.popleft() if waiting else self._always.get(exchange.method, passed_on)
        fault(exchange)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # else the system makes the 64 connections of a copy wait for seconds


def handler_of(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    """Make the class that http.server wants."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def take(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            proxy.take(Exchange(self.command, self.path, headers, body, proxy.upstream, self.connection))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = take  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    return Handler
