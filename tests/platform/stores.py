"""Object stores to test on: servers on loopback, whose address and keys stand in the environment as real ones' do."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

TOOLS = Path(__file__).parents[2] / "build"
# The account and key of every Azurite, which its documentation names.
AZURITE = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Store(NamedTuple):
    """A running server: how to address its bucket, and what has to stand in the environment."""

    root: str
    environment: Mapping[str, str]
    artifacts: str = ""  # the same bucket, where MLflow has to address it in another way

    def fresh(self) -> str:
        """An address below which nothing is."""
        return f"{self.root}/{uuid.uuid4().hex}"

    def fresh_for_artifacts(self) -> str:
        """One for the artifacts of MLflow."""
        return f"{self.artifacts or self.root}/{uuid.uuid4().hex}"


@contextmanager
def s3() -> Iterator[Store]:
    port = free_port()
    server = tool(TOOLS / "moto" / "bin" / "moto_server", "moto is not installed: make test-storage")
    with serving([server, "--host", "127.0.0.1", "--port", str(port)], port):
        url = f"http://127.0.0.1:{port}"
        urlopen(Request(f"{url}/lake", method="PUT")).close()
        access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
        yield Store("s3://lake", {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", **access})


@contextmanager
def azure() -> Iterator[Store]:
    from pyarrow.fs import AzureFileSystem  # the template's own tests, which have no pyarrow, use this file as well

    port = free_port()
    server = tool(TOOLS / "azurite" / "node_modules" / ".bin" / "azurite-blob", "Azurite needs npm: make test-storage")
    options = ["--blobHost", "127.0.0.1", "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    with serving([server, "--blobPort", str(port), *options], port):
        authority = f"127.0.0.1:{port}"
        AzureFileSystem(
            AZURITE,
            account_key=KEY,
            blob_storage_authority=authority,
            dfs_storage_authority=authority,
            blob_storage_scheme="http",
            dfs_storage_scheme="http",
        ).create_dir("lake")
        access = {"AZURE_STORAGE_ACCOUNT_NAME": AZURITE, "AZURE_STORAGE_ACCOUNT_KEY": KEY}
        emulator = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://{authority}"}
        # MLflow reaches abfss:// by the interface of Data Lake, which Azurite does not have.
        blob = {"DefaultEndpointsProtocol": "http", "AccountName": AZURITE, "AccountKey": KEY}
        blob["BlobEndpoint"] = f"http://{authority}/{AZURITE}"
        access["AZURE_STORAGE_CONNECTION_STRING"] = ";".join(f"{name}={value}" for name, value in blob.items())
        yield Store(
            f"abfss://lake@{AZURITE}.dfs.core.windows.net",
            {**access, **emulator},
            f"wasbs://lake@{AZURITE}.blob.core.windows.net",
        )


@contextmanager
def google() -> Iterator[Store]:
    port, front = free_port(), free_port()
    server = tool(TOOLS / "bin" / "fake-gcs-server", "fake-gcs-server needs Go: make test-storage")
    url = f"http://127.0.0.1:{port}"
    options = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-public-host", f"127.0.0.1:{port}"]
    xml = [sys.executable, str(Path(__file__).with_name("xml_of_google.py")), str(front), url]
    with serving([server, "-port", str(port), *options], port), serving(xml, front):
        body = json.dumps({"name": "lake"}).encode()
        urlopen(Request(f"{url}/storage/v1/b?project=test", body, {"Content-Type": "application/json"})).close()
        key = {"gcs_base_url": f"http://127.0.0.1:{front}", "disable_oauth": True}
        key |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        access = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key), "GOOGLE_ALLOW_HTTP": "true"}
        access["GOOGLE_CLOUD_PROJECT"] = "test"
        yield Store("gs://lake", {"STORAGE_EMULATOR_HOST": url, **access})


@contextmanager
def models(store: Store, folder: Path, python: str = sys.executable) -> Iterator[str]:
    """A server of MLflow, which keeps what it knows in `folder`; its clients put artifacts where an experiment says."""
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    artifacts = store.fresh_for_artifacts()
    kept = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--default-artifact-root", artifacts]
    alone = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # or else seven processes of its own wait for jobs
    with serving([python, "-m", "mlflow", "server", *options, *kept], port, seconds=120, **alone):
        yield f"http://127.0.0.1:{port}"


STORES = {"s3": s3, "azure": azure, "google": google}


def environment() -> dict[str, str]:
    """What a process of a test gets: this one's environment and modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def tool(path: Path, reason: str) -> str:
    if not path.exists():
        pytest.skip(reason)
    return str(path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, seconds: int = 30, **more: str) -> Iterator[None]:
    """A server, until the block is left; it has to answer within so many seconds. `more` stands in its environment."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdout=quiet, stderr=quiet, start_new_session=True, env={**os.environ, **more}
    ) as server:
        try:
            for _ in range(20 * seconds):
                assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
                try:
                    urlopen(f"http://127.0.0.1:{port}/").close()
                except HTTPError:
                    break
                except OSError:
                    time.sleep(0.05)
                    continue
                break
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # with what it started: MLflow's has workers


@contextmanager
def postgres() -> Iterator[str]:
    """A server with an empty database, on loopback; PostgreSQL refuses to be root, and becomes its own user then."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/local/bin").glob("initdb")]
    if not found:
        pytest.skip("there is no PostgreSQL here")
    tools = found[0] if found[0].is_dir() else found[0].parent
    place = Path(tempfile.mkdtemp(prefix="mlplatform-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(place, user)
    port = free_port()

    def run(*command: str) -> None:
        subprocess.run([str(tools / command[0]), *command[1:]], check=True, user=user, capture_output=True, cwd=place)

    run("initdb", "-D", str(place / "data"), "-U", "shop", "-A", "trust")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place} -c fsync=off"
    run("pg_ctl", "-D", str(place / "data"), "-w", "-l", str(place / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://shop:secret@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(place / "data"), "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)
