"""A Kafka broker of its own on this machine, for tests; see `make test-stream`, which fetches its jars."""

import base64
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

LIBS = Path(os.environ.get("KAFKA_LIBS", Path(__file__).parents[2] / "build" / "kafka" / "libs"))


def missing() -> str:
    """What a broker lacks here, or nothing."""
    if not shutil.which("java"):
        return "a Kafka broker needs java"
    return "" if LIBS.is_dir() else f"a Kafka broker needs its jars in {LIBS}: make test-stream fetches them"


class Broker:
    """One node, which can be stopped and started again; its messages stay."""

    def __init__(self, folder: Path) -> None:
        self.port, controller = _free_port(), _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._settings = folder / "server.properties"
        folder.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(
            f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{self.address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder / "log"}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
"""
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config").wait(60)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = self._java("kafka.Kafka")
        ends = time.monotonic() + 90
        while time.monotonic() < ends:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self._settings.parent / "output.txt").read_text()[-2000:]
            time.sleep(0.2)
        raise TimeoutError("the broker does not start")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(60)

    def _java(self, *command: str) -> "subprocess.Popen[bytes]":
        small = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        with (self._settings.parent / "output.txt").open("ab") as output:
            return subprocess.Popen(
                ["java", *small, "-cp", f"{LIBS}/*", *command, str(self._settings)], stdout=output, stderr=output
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
