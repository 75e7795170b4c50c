"""Requests per second and latencies: this server and `mlflow models serve`, side by side on one model.

    python serving.py PROJECT AS_OF [--env ENV] [--seconds N] [--swaps N] [--requests N]

PROJECT is a render with `inference=online` or `all` and a champion in ENV (default: prod), for which
`materialize` has run as of AS_OF, with `serving.limits.per_second` out of the way; call it with its Python.
Load generator and server share the machine, and one session, since Linux divides a busy machine's time by
sessions. Our server looks features up and logs; MLflow's is handed the model's inputs. The processor time of
a request says more than its seconds where the machine has other work. `the platform alone` has a model that
scores in no time. Five swaps of the champion happen in the last run. With `--requests N` nothing is compared:
the server answers N requests, and its memory is told.
"""

import argparse
import asyncio
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path

import httpx
from mlplatform.environment import Environment
from mlplatform.registry import approval
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.serving import champion
from mlplatform.serving.access import new_key
from mlplatform.serving.load import Measured, bodies_of, measure, started

STEPS = 10
_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def mlflow_serve(folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    """Its address, and the processor seconds that it and what it started have used."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        process_group=0,
    ) as process:
        try:
            for _ in range(1_200):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", lambda: group_seconds(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def group_seconds(group: int) -> float:
    used = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group:
            used += int(fields[11]) + int(fields[12])
    return used / _TICKS


def told(url: str, name: str) -> float:
    """A metric of our server."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


def timed(
    used: Callable[[], float],
    seconds: float,
    clients: int,
    url: str,
    bodies: list[bytes],
    key: str,
    path: str = "/predict",
) -> tuple[Measured, str]:
    """What clients measured, and how much processor time a request took the server."""
    headers = {"X-API-Key": key} if key else {}
    asyncio.run(measure(url, bodies, headers, clients, min(2, seconds), path))
    before = used()
    found = asyncio.run(measure(url, bodies, headers, clients, seconds, path))
    each = (used() - before) / (found.per_second * seconds)
    return found, f"{found}, {each * 1e3:.2f} ms of processor time a request"


def swaps(env: Environment, as_of: datetime, until: float) -> None:
    """Five times another version takes over, spread over the run."""
    registry = Registry(env)
    champion = registry.version(registry.ledger.champion(as_of) or 0)
    for number in range(5):
        time.sleep((until - time.monotonic()) / (6 - number))
        tags = {**champion.tags, "identity": f"swap {as_of} {number} {time.time()}"}
        made = registry.client.create_model_version(registry.model, champion.source, champion.run_id, tags)
        request = Transition(
            registry.model, int(made.version), "None", "Production", as_of, "benchmark", "a swap"
        )
        approval.approve(registry, request, Decision(as_of, "benchmark", "a swap"))


def main(given: argparse.Namespace) -> None:
    project, as_of = given.project.resolve(), given.as_of
    os.chdir(project)
    sys.path.insert(0, str(project / "src"))
    package = next(path.parent.name for path in project.glob("src/*/project.py"))
    env = Environment.load(given.env, import_module(f"{package}.project").PROJECT, project)
    registry, ours, (key, entry) = Registry(env), bodies_of(env, as_of), new_key("benchmark")
    if given.requests:
        with started(env, as_of, entry) as url:
            for number in range(STEPS + 1):
                answered = told(url, 'serving_requests_total{status="200"}') if number else 0
                megabytes = told(url, "process_resident_memory_bytes") / 2**20
                print(f"{answered:>11,.0f} requests, {megabytes:6.1f} MB", flush=True)
                until = given.requests * (number + 1) / STEPS
                while number < STEPS and answered < until:
                    asyncio.run(measure(url, ours, {"X-API-Key": key}, 8, 2))
                    answered = told(url, 'serving_requests_total{status="200"}')
        return
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    model = registry.files(registry.ledger.champion(as_of) or 0, "model")
    example = json.loads((model / "input_example.json").read_text())
    theirs = [json.dumps({"dataframe_split": example | {"data": example["data"][:1]}}).encode()]
    with mlflow_serve(model) as (peer, peer_used), started(env, as_of, entry) as url:
        for clients in (1, 8):
            them, text = timed(peer_used, given.seconds, clients, peer, theirs, "", "/invocations")
            print(f"{clients} clients, mlflow models serve: {text}", flush=True)
            us, text = timed(
                lambda: told(url, "process_cpu_seconds_total"), given.seconds, clients, url, ours, key
            )
            print(
                f"{clients} clients, this server: {text}; {us.per_second / them.per_second:.1f} times",
                flush=True,
            )
    with started(env, as_of, entry, (__file__, "--free", package)) as url:
        _, text = timed(lambda: told(url, "process_cpu_seconds_total"), given.seconds, 1, url, ours, key)
        print(f"1 clients, the platform alone: {text}", flush=True)
    if not given.swaps:
        return
    with started(env, as_of, entry) as url:
        before = httpx.get(f"{url}/ready").json()["model_version"]
        thread = threading.Thread(target=swaps, args=(env, as_of, time.monotonic() + given.swaps))
        thread.start()
        us = asyncio.run(measure(url, ours, {"X-API-Key": key}, 2, given.swaps))
        thread.join()
        swapped = told(url, "serving_swaps")
        print(f"2 clients, {given.swaps:.0f} s, {swapped:.0f} loads from version {before}: {us}")
        print(f"memory of the server: {told(url, 'process_resident_memory_bytes') / 2**20:,.0f} MB")


def free(package: str, arguments: list[str]) -> None:
    """The project's command, with a model that scores in no time."""
    champion.row_scorer = lambda _: lambda _: 0.5  # type: ignore[assignment]
    champion.differs = lambda *_: ""  # type: ignore[assignment]
    sys.path.insert(0, "src")
    sys.argv = [package, *arguments]
    runpy.run_module(package, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--free"]:
        free(sys.argv[2], sys.argv[3:])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("as_of", type=datetime.fromisoformat)
    parser.add_argument("--env", default="prod")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--swaps", type=float, default=60.0, help="seconds; 0: no run with swaps")
    parser.add_argument("--requests", type=int, default=0, help="answer so many, and tell the memory")
    main(parser.parse_args())
