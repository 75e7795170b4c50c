"""What tests of Spark share: its settings for this machine, and what makes two environments' tables the same."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from mlplatform.environment import Environment

JARS = Path(__file__).parents[2] / "build" / "jars"
LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
# Small tables gain nothing from compilers, and wait for them.
SESSION = {
    **LOOPBACK,
    "spark.driver.memory": "700m",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",  # of the tasks in which VACUUM lists files: 10,000
}
HERE = {"master": "local[2]", "jars": str(JARS), "session": SESSION}
# What clocks on the wall decide, and the numbers of runs.
WALL_CLOCK = ("ingested_at", "modified", "scored_at", "recorded_at", "run_id", "started_at", "seconds")


def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def clean(folder: Path) -> tuple[Path, dict[str, str]]:
    """Where Spark is, and an environment for processes that know nothing of this one."""
    import pyspark

    home = Path(pyspark.__path__[0])
    here = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "HOME": str(folder)}
    return home / "bin", {"PATH": os.environ["PATH"], **here}


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@contextmanager
def connect_server(folder: Path) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """A Spark Connect server on loopback, with Delta, which knows nothing of this process, and its address."""
    address = port()
    settings = {
        **SESSION,
        "spark.jars": ",".join(map(str, sorted(JARS.glob("*.jar")))),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(address),
        "spark.log.level": "WARN",
    }
    where, environment = clean(folder)
    command = [str(where / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    command += ["--master", "local[2]", *(f"--conf={name}={value}" for name, value in settings.items())]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "spark-internal"],
            cwd=folder,
            env=environment | {"PYSPARK_PYTHON": sys.executable},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", address)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()[-2000:]
            time.sleep(0.2)
        yield f"sc://127.0.0.1:{address}", process
    finally:
        end(process)


@contextmanager
def tls_front(folder: Path, server: str, token: str) -> Iterator[tuple[str, Path]]:
    """What a company puts before a Spark Connect server: TLS, and who has the token. Its address and certificate."""
    import grpc
    from pyspark.sql.connect.client.reattach import ExecutePlanResponseReattachableIterator

    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ("-subj", "/CN=connect", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    behind = grpc.insecure_channel(server.removeprefix("sc://"))

    class Forwarded(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            may_pass = ("authorization", f"Bearer {token}") in map(tuple, details.invocation_metadata)

            def forward(requests: Any, context: Any) -> Any:
                if not may_pass:
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid authentication token")
                return behind.stream_stream(details.method)(requests)

            return grpc.stream_stream_rpc_method_handler(forward)

    front = grpc.server(ThreadPoolExecutor(8), handlers=[Forwarded()])
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    address = front.add_secure_port("127.0.0.1:0", credentials)
    front.start()
    try:
        yield f"sc://127.0.0.1:{address}", certificate
    finally:
        ExecutePlanResponseReattachableIterator.shutdown()  # its threads would try for ten minutes to say the rest
        front.stop(None)


def tables(env: Environment) -> dict[str, pl.DataFrame]:
    """All tables, without what the wall clock decides, in one order of rows."""
    found = {}
    for name in env.catalog.names():
        rows = pl.DataFrame(env.catalog.read(name))
        if "metric" in rows.columns:
            rows = rows.filter(~pl.col("metric").is_in(["run_seconds", "rows_per_second"]))
        rows = rows.drop(WALL_CLOCK, strict=False)
        found[name] = rows.sort(rows.columns)
    return found


def assert_same(left: Environment, right: Environment) -> None:
    ours, theirs = tables(left), tables(right)
    assert ours.keys() == theirs.keys()
    for name, rows in ours.items():
        assert_frame_equal(rows, theirs[name], check_exact=False, abs_tol=1e-9, rel_tol=0)
