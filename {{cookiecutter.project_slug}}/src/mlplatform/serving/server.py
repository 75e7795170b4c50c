"""The process that serves: it starts when it can answer, and ends when the last request is answered."""

import gc
import sys
from collections.abc import Callable
from datetime import datetime
from math import inf

import uvicorn

from mlplatform.config.serving import LOOPBACK, ServingSettings
from mlplatform.environment import Environment
from mlplatform.errors import ConfigError
from mlplatform.serving.access import Rate
from mlplatform.serving.app import Service, application


class _Server(uvicorn.Server):
    """Says where it listens, as soon as it does."""

    def _log_started_message(self, listeners: object) -> None:
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
    service = Service(env, clock)
    if unlimited:
        service.rate = Rate(inf)
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not look through it at each turn
    _Server(
        uvicorn.Config(
            application(service),
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=30,
        )
    ).run()
