"""Packages come from the index that pip is set to, with uv, too."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bake import ROOT, bake


class Index(ThreadingHTTPServer):
    """An index that has no package, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/company/packages"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Index)
        self.server.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("said", ["variable", "pip.conf", "extra"])
def test_the_first_installation_asks_the_index_that_pip_is_set_to(
    index: Index, template: Path, tmp_path: Path, said: str
) -> None:
    project, venv, settings = bake(template, tmp_path, {}), tmp_path / "venv", tmp_path / "pip.conf"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (venv / "bin" / "uv").symlink_to(ROOT / ".venv" / "bin" / "uv")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_", "MAKE"))}
    settings.write_text(f"[global]\nindex-url = {index.address}\n" if said == "pip.conf" else "")
    environment = clean | {"PIP_CONFIG_FILE": str(settings), "UV_NO_CACHE": "1"}
    if said == "variable":
        environment["PIP_INDEX_URL"] = index.address
    if said == "extra":
        environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/none", "PIP_EXTRA_INDEX_URL": index.address}
    command = ["make", "setup", f"VENV={venv}"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0  # it has nothing
    assert any(path.startswith("/company/packages/") for path in index.asked), done.stderr
