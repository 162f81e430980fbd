"""A proxy in front of an object store: it refuses, loses and cuts short what a seed or a test says, and counts all.

Plain HTTP/1.1. Requests are passed on as they are, so signatures stay right. It answers in a thread of its own:

    with FaultProxy(endpoint, randomly(seed=1, rate=0.1)) as proxy:
        ...  # clients speak to proxy.url
    proxy.requests, proxy.injected
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from urllib.parse import unquote, urlsplit


class Fault(StrEnum):
    """What becomes of a request."""

    UNAVAILABLE = "503 Service Unavailable"
    SLOW_DOWN = "503 SlowDown"
    TOO_MANY = "429 Too Many Requests"
    INTERNAL = "500 InternalError"
    CONFLICT = "409 ConditionalRequestConflict"
    """What S3 says to a create while another one of the same key is on; comes to creates only."""
    EXPIRED = "400 ExpiredToken"
    RESET = "connection reset"
    RESET_IN_REQUEST = "connection reset within the request"
    """The store gets the first half."""
    RESET_IN_ANSWER = "connection reset within the answer"
    CUT_SHORT = "answer cut short"
    """The connection ends in good order after half of the answer."""
    LOST = "done, and the answer lost"
    LOST_TO_503 = "done, and the answer is 503"
    SILENT = "done, and no answer comes"
    """Until the client gives up."""


REFUSALS = {
    Fault.UNAVAILABLE: (503, "ServiceUnavailable"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.TOO_MANY: (429, "TooManyRequests"),
    Fault.INTERNAL: (500, "InternalError"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.EXPIRED: (400, "ExpiredToken"),
    Fault.LOST_TO_503: (503, "ServiceUnavailable"),
}
"""Fault -> status and code of the answer."""
PASSING = frozenset(Fault) - {Fault.EXPIRED, Fault.SILENT}
"""What may happen to a request at any time, and is quickly over."""


@dataclass(slots=True)
class Exchange:
    """A request and what was answered."""

    method: str
    """Of HTTP, or LIST: stores bill listings by another price."""
    target: str
    """Path and query as they were sent."""
    headers: dict[str, str]
    """By lower-case name."""
    number: int
    """How often the same method and target came before."""
    fault: Fault | None = None
    status: int = 0
    """0: none was sent."""
    bytes_in: int = 0
    """Of the request's body."""
    bytes_out: int = 0
    """Of the answer's body."""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def creates(self) -> bool:
        """Whether the request asks to write only what is absent."""
        return {"if-none-match", "x-goog-if-generation-match"} & self.headers.keys() != set() and self.method == "PUT"


Choice = Callable[[Exchange], Fault | None]


def randomly(seed: int, rate: float, faults: Collection[Fault] = PASSING) -> Choice:
    """Faults by a seed. The same request in the same repetition meets the same one, in whatever order requests come."""

    def choose(exchange: Exchange) -> Fault | None:
        kinds = sorted(fault for fault in faults if fault is not Fault.CONFLICT or exchange.creates)
        rng = random.Random(f"{seed} {exchange.method} {exchange.target} {exchange.number}")
        return rng.choice(kinds) if rng.random() < rate else None

    return choose


@dataclass
class FaultProxy:
    """Listens on a free port of the loopback for as long as the `with` block."""

    upstream: str
    """`http://host:port`."""
    choose: Choice = lambda exchange: None
    """The fault of a request; called in the proxy's thread."""
    translate: Callable[[bytes], bytes] = lambda head: head
    """What becomes of a request's lines before its body on the way to the store."""
    exchanges: list[Exchange] = field(default_factory=list)
    """In the order in which they came."""
    url: str = ""

    def __enter__(self) -> FaultProxy:
        ready = threading.Event()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fault-proxy", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def requests(self) -> Counter[str]:
        """By method."""
        return Counter(exchange.method for exchange in self.exchanges)

    @property
    def injected(self) -> Counter[str]:
        """By fault."""
        return Counter(exchange.fault for exchange in self.exchanges if exchange.fault is not None)

    @property
    def bytes_in(self) -> int:
        """That clients sent."""
        return sum(exchange.bytes_in for exchange in self.exchanges)

    @property
    def bytes_out(self) -> int:
        """That clients were sent."""
        return sum(exchange.bytes_out for exchange in self.exchanges)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=1 << 20)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await self._stop.wait()
            server.close()
            clients = asyncio.all_tasks() - {asyncio.current_task()}
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client: request after request, until either side ends it."""
        place = urlsplit(self.upstream)
        store: _Connection | None = None
        client = _Connection(reader, writer)
        try:
            while (head := await client.head()) is not None:
                if store is None:
                    store = _Connection(*await asyncio.open_connection(place.hostname, place.port, limit=1 << 20))
                if not await self._exchange(client, store, head):
                    return
        except (OSError, EOFError, asyncio.CancelledError):  # also an IncompleteReadError: the other side is gone
            pass
        finally:
            client.close()
            if store is not None:
                store.close()

    async def _exchange(self, client: _Connection, store: _Connection, head: _Head) -> bool:
        """Pass a request on and its answer back, or not. False: the connections end."""
        seen = self._note(head)
        if head.headers.get("expect", "").lower() == "100-continue":
            await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            head.drop("expect")
        head.raw = self.translate(head.raw)
        request = client.body(head)
        fault = seen.fault
        if fault is None:
            await store.send(head.raw)
            async for part in request:
                seen.bytes_in += len(part)
                await store.send(part)
            return await self._answer(client, store, seen)
        body = b"".join([part async for part in request])
        seen.bytes_in = len(body)
        if fault is Fault.RESET:
            client.reset()
            return False
        if fault is Fault.RESET_IN_REQUEST:
            whole = head.raw + body
            await store.send(whole[: len(head.raw) + len(body) // 2] if body else whole[: len(whole) // 2])
            store.reset()
            client.reset()
            return False
        if fault not in REFUSALS or fault is Fault.LOST_TO_503:
            await store.send(head.raw + body)
            answer = await store.answer()
            parts = b"".join([part async for part in store.body(answer, answers=seen.method)])
            if fault not in REFUSALS:
                return await self._spoilt(client, answer.raw, parts, seen)
        await self._refused(client, seen)
        return True

    def _note(self, head: _Head) -> Exchange:
        lists = re.search(r"[?&](list-type|comp=list)\b", head.target) and head.method == "GET"
        method = "LIST" if lists else head.method
        number = self._seen[method, head.target]
        self._seen[method, head.target] += 1
        seen = Exchange(method, head.target, head.headers, number)
        seen.fault = self.choose(seen)
        self.exchanges.append(seen)
        return seen

    async def _answer(self, client: _Connection, store: _Connection, seen: Exchange) -> bool:
        answer = await store.answer()
        seen.status = answer.status
        await client.send(answer.raw)
        async for part in store.body(answer, answers=seen.method):
            seen.bytes_out += len(part)
            await client.send(part)
        return not answer.ends_connection

    async def _spoilt(self, client: _Connection, head: bytes, body: bytes, seen: Exchange) -> bool:
        half = head + body[: len(body) // 2] if body else head[: len(head) // 2]
        if seen.fault is Fault.SILENT:
            await client.reader.read()
        elif seen.fault is Fault.CUT_SHORT:
            await client.send(half)
        else:
            if seen.fault is Fault.RESET_IN_ANSWER:
                await client.send(half)
            client.reset()
        return False

    async def _refused(self, client: _Connection, seen: Exchange) -> None:
        assert seen.fault is not None
        seen.status, code = REFUSALS[seen.fault]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        head = f"HTTP/1.1 {seen.status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        await client.send(head.encode() + (b"" if seen.method == "HEAD" else body))


@dataclass
class _Head:
    """The lines before a body."""

    raw: bytes
    headers: dict[str, str]
    """By lower-case name."""

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        lines = raw.decode("latin-1").split("\r\n")[1:-2]
        return cls(raw, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)})

    @property
    def method(self) -> str:
        return self.raw.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.raw.split(b" ", 2)[1].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def ends_connection(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    def drop(self, name: str) -> None:
        self.raw = re.sub(rb"(?i)\r\n" + name.encode() + rb":[^\r]*", b"", self.raw)


class _Connection:
    """One side of an exchange."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer
        writer.transport.set_write_buffer_limits(0)  # what was sent has left when `send` returns
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def head(self) -> _Head | None:
        """Of the next request; None at the end of the connection."""
        try:
            return _Head.parse(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return None

    async def answer(self) -> _Head:
        """Of the final answer: those that only say `go on` are passed over."""
        while True:
            head = _Head.parse(await self.reader.readuntil(b"\r\n\r\n"))
            if head.status >= 200:
                return head

    async def body(self, head: _Head, answers: str | None = None) -> AsyncIterator[bytes]:
        """A body in parts as they come, with the framing of its chunks. `answers`: the method, of an answer."""
        if answers == "HEAD" or (answers is not None and head.status in (204, 304)):
            return
        if head.chunked:
            size = -1
            while size != 0:
                line = await self.reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                yield line + await self.reader.readexactly(size + 2)
            return
        left = int(head.headers.get("content-length", 0 if answers is None or not head.ends_connection else 1 << 62))
        while left and (part := await self.reader.read(min(left, 1 << 18))):
            left -= len(part)
            yield part
        if left and "content-length" in head.headers:
            raise EOFError

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """End the connection by RST, not in good order."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()
