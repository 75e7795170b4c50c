"""Requests per second and latencies: this server and `mlflow models serve`, side by side on one model.

    python serving.py PROJECT AS_OF [ENV]

PROJECT is a render with `inference=online` and a champion in ENV (default: prod), for which `materialize` has
run as of AS_OF, with the limit `per_second` out of the way; call it with its own Python. Load generator and
server share the machine. Our server looks features up and logs; MLflow's is handed the model's inputs. Five
swaps of the champion happen in the last run.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path

import httpx
from mlplatform.environment import Environment
from mlplatform.registry import approval
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision, Transition
from mlplatform.serving.access import new_key
from mlplatform.serving.load import bodies_of, measure, started

SECONDS = float(os.environ.get("SECONDS_EACH", "10"))
LONG = float(os.environ.get("SECONDS_SWAPS", "60"))


@contextmanager
def mlflow_serve(folder: Path) -> Iterator[str]:
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
        start_new_session=True,
    ) as process:
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)


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


def main(project: Path, as_of: datetime, name: str) -> None:
    os.chdir(project)
    sys.path.insert(0, str(project / "src"))
    package = next(path.parent.name for path in project.glob("src/*/project.py"))
    env = Environment.load(name, import_module(f"{package}.project").PROJECT, project)
    registry = Registry(env)
    model = registry.files(registry.ledger.champion(as_of) or 0, "model")
    example = json.loads((model / "input_example.json").read_text())
    theirs = [json.dumps({"dataframe_split": example | {"data": example["data"][:1]}}).encode()]
    ours, (key, entry) = bodies_of(env, as_of), new_key("benchmark")
    headers = {"X-API-Key": key}
    with mlflow_serve(model) as peer, started(env, as_of, entry) as url:
        for clients in (1, 8):
            asyncio.run(measure(peer, theirs, {}, clients, 2, "/invocations"))
            asyncio.run(measure(url, ours, headers, clients, 2))
            them = asyncio.run(measure(peer, theirs, {}, clients, SECONDS, "/invocations"))
            us = asyncio.run(measure(url, ours, headers, clients, SECONDS))
            print(f"{clients} clients, mlflow models serve: {them}")
            print(
                f"{clients} clients, this server: {us}; {us.per_second / them.per_second:.1f} times",
                flush=True,
            )
    with started(env, as_of, entry) as url:
        before = httpx.get(f"{url}/ready").json()["model_version"]
        thread = threading.Thread(target=swaps, args=(env, as_of, time.monotonic() + LONG))
        thread.start()
        us = asyncio.run(measure(url, ours, headers, 2, LONG))
        thread.join()
        text = httpx.get(f"{url}/metrics").text
        swapped = next(line for line in text.splitlines() if line.startswith("serving_swaps "))
        print(f"2 clients, {LONG:.0f} s, five swaps from version {before} ({swapped}): {us}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"most memory of a server: {used.ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main(
        Path(sys.argv[1]).resolve(),
        datetime.fromisoformat(sys.argv[2]),
        sys.argv[3] if len(sys.argv) > 3 else "prod",
    )
