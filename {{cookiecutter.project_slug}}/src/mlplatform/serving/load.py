"""The load test: clients that ask without a pause, and what their answers took, against the limits in conf/*.yml."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlparse

import numpy as np

from mlplatform.config.serving import Load, ServingSettings
from mlplatform.environment import Environment
from mlplatform.errors import UserError
from mlplatform.features.online import plain
from mlplatform.registry.store import Registry
from mlplatform.serving.access import KEYS, new_key
from mlplatform.serving.champion import joined_schema
from mlplatform.serving.schema import fields
from mlplatform.storage.catalog import quoted

_ENTITIES = 200
_PATIENCE = 300.0  # seconds for a server to start


class LoadTestError(UserError):
    """The server does not start, or is beyond a limit; the message has one line per limit."""


@dataclass(frozen=True)
class Measured:
    """What clients saw: the statuses other than 200, requests per second, and latencies in seconds."""

    failed: int
    per_second: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return (
            f"{self.per_second:,.0f} requests/s, p50 {self.p50 * 1e3:.2f} ms, p99 {self.p99 * 1e3:.2f} ms, "
            f"{self.failed} failed"
        )


def load_test(env: Environment, as_of: datetime) -> Measured | None:
    """Start a server of the environment, ask it for entities that are known at `as_of`, and stop it.

    None where models come from another environment and none has come yet. Raises LoadTestError where one that trains
    its own has no champion, or where the server is beyond what `serving.load` allows.
    """
    if Registry(env).ledger.champion(as_of) is None:
        if "train" in env.config.pipelines.refused:
            return None
        raise LoadTestError(f"{env.name} has no champion, so there is nobody to ask: train and deploy there first")
    settings, bodies = env.config.of(ServingSettings).load, bodies_of(env, as_of)
    key, entry = new_key("load test")
    with started(env, as_of, entry) as url:
        headers = {"X-API-Key": key}
        asyncio.run(measure(url, bodies, headers, settings.clients, 1.0))  # it warms up
        found = asyncio.run(measure(url, bodies, headers, settings.clients, settings.seconds))
    beyond = too_much(found, settings)
    if beyond:
        raise LoadTestError("\n".join([f"the load test of {env.name} fails: {found}", *beyond]))
    return found


def too_much(found: Measured, settings: Load) -> list[str]:
    """The limits that are crossed, one line each."""
    limits = [
        ("failed", found.failed, found.failed > settings.failed),
        ("per_second", found.per_second, found.per_second < settings.per_second),
        ("p50", found.p50, found.p50 > settings.p50),
        ("p99", found.p99, found.p99 > settings.p99),
    ]
    return [f"{name}: {value:g} is beyond serving.load.{name}" for name, value, crossed in limits if crossed]


def bodies_of(env: Environment, as_of: datetime) -> list[bytes]:
    """Requests for one entity each."""
    names = fields(env.project, joined_schema(env, as_of))
    rows = env.engine.query(
        f"SELECT {', '.join(map(quoted, names))} FROM ({env.project.sql('entities.sql')}\n) "
        f"ORDER BY prediction_time DESC, {', '.join(env.project.entity.keys)} LIMIT {_ENTITIES}",
        as_of=as_of,
    ).arrow()
    if not rows.num_rows:
        raise LoadTestError(f"{env.name} knows no entity at {as_of}: there is nothing to ask for")
    texts = [
        {n: v.isoformat() if isinstance(v, datetime) else plain(v) for n, v in row.items()} for row in rows.to_pylist()
    ]
    return [json.dumps({"rows": [text]}).encode() for text in texts]


@contextmanager
def started(env: Environment, as_of: datetime, entry: str, program: Sequence[str] = ()) -> Iterator[str]:
    """A server of the environment as of a time, in a process of its own, that knows one key; its address.

    `program`: Python's arguments up to the command; default: the project's own.
    """
    command = [sys.executable, *(program or ("-m", env.project.package))]
    command += ["serve", "--env", env.name, "--port", "0", "--unlimited"]
    command += ["--as-of", as_of.strftime("%Y-%m-%dT%H:%M:%S")]
    with subprocess.Popen(
        command, cwd=env.folder, env={**os.environ, KEYS: entry}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        patience = threading.Timer(_PATIENCE, process.kill)
        patience.start()
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"serving on (http://\S+),", line):
                    patience.cancel()
                    yield address[1]
                    return
            raise LoadTestError(f"the server does not start: {''.join(said).strip()}")
        finally:
            patience.cancel()
            process.terminate()
            process.stderr.close()


async def measure(
    url: str, bodies: Sequence[bytes], headers: dict[str, str], clients: int, seconds: float, path: str = "/predict"
) -> Measured:
    """Ask with so many clients for so long, each on a connection of its own, one request after the other."""
    address = urlparse(url)
    assert address.hostname is not None
    host, port = address.hostname, address.port or 80
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Type": "application/json", **headers}.items())
    requests = [
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for body in bodies
    ]
    until, begin = time.perf_counter() + seconds, time.perf_counter()
    each = [requests[number % len(requests) :] + requests[: number % len(requests)] for number in range(clients)]
    found = await asyncio.gather(*(_ask(host, port, mine, until) for mine in each))
    latencies = np.array([latency for one, _ in found for latency in one])
    failed = sum(failures for _, failures in found)
    if not latencies.size:
        return Measured(failed, 0.0, np.inf, np.inf)
    p50, p99 = np.percentile(latencies, [50, 99])
    return Measured(failed, latencies.size / (time.perf_counter() - begin), float(p50), float(p99))


async def _ask(host: str, port: int, requests: Sequence[bytes], until: float) -> tuple[list[float], int]:
    """Latencies, and how many answers were no 200 or did not come."""
    latencies, failed, number = [], 0, 0
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while (begin := time.perf_counter()) < until:
            writer.write(requests[number % len(requests)])
            number += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            latencies.append(time.perf_counter() - begin)
            failed += not head.startswith(b"HTTP/1.1 200")
    except (OSError, asyncio.IncompleteReadError):
        failed += 1
    finally:
        writer.close()
    return latencies, failed
