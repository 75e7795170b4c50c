"""The process that serves: it starts when it can answer, and ends when the last request is answered."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from math import inf
from typing import Literal

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlplatform.config.serving import LOOPBACK, ServingSettings
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError
from mlplatform.serving.access import Rate
from mlplatform.serving.app import Service, application

_HEADERS = 64 * 1024  # bytes, beyond what has come with the first of them
_IDLE = 5  # seconds for headers to come, and between two requests


class _Protocol(HttpToolsProtocol):
    """Closes connections whose headers are too long, or do not come: nobody has shown a key yet."""

    _reads: Literal["", "headers", "chunk", "body"] = ""
    _size = 0
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        super().data_received(data)
        if self._reads != "body" and self._size > _HEADERS:
            self._refuse()
        elif self._reads == "headers" and self._due is None:
            self._wait()

    def on_message_begin(self) -> None:
        self._reads, self._size = "headers", 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reads = "body"
        self._cancel()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._reads, self._size = "chunk", 0  # behind the last one more headers may come

    def on_body(self, body: bytes) -> None:
        self._reads = "body"
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._due = self.loop.call_later(_IDLE, self._refuse)

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _refuse(self) -> None:
        if self._reads and not self.transport.is_closing():
            self.send_400_response("The headers are too long, or did not come in time.")
        self.transport.close()


class _Server(uvicorn.Server):
    """Says where it listens, as soon as it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            sys.stderr.write(f"serving on http://{self.config.host}:{port}, described at /docs\n")


def serve(
    env: Environment,
    clock: Callable[[], datetime],
    host: str | None = None,
    port: int | None = None,
    *,
    unlimited: bool = False,
) -> None:
    """Serve until a signal says to stop. Raises UserError where it cannot: no keys, no features, unreleased code.

    `unlimited`: a key may ask as often as it can.
    """
    settings = env.config.of(ServingSettings)
    host, port = host or settings.host, settings.port if port is None else port
    if settings.keys == "none" and host not in LOOPBACK:
        raise ConfigError(f"{host}: a server that others reach asks for keys (serving.keys: required)")
    env.permit("serve")
    with _bound(host, port) as address:
        service = Service(env, clock)
        if unlimited:
            service.rate = Rate(inf)
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not look through it at each turn
        server(service, host, port).run([address])


def _bound(host: str, port: int) -> socket.socket:
    """The address is ours from here on; who connects before the server can answer is refused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise ConfigError(f"{host}, port {port}: {error.strerror}: give others (serving.host, serving.port)") from error
    return found


def server(service: Service, host: str, port: int) -> uvicorn.Server:
    """The server of a service, not started yet."""
    return _Server(
        uvicorn.Config(
            application(service),
            host=host,
            port=port,
            loop="uvloop",
            http=_Protocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=30,
        )
    )
