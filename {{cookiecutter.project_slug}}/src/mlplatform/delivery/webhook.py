"""MLflow's webhook: when it says that a version asks for Staging, the deploy pipeline starts.

A delivery is believed if it is signed as mlflow/webhooks/delivery.py signs: HMAC-SHA256 over
`<delivery id>.<timestamp>.<body>`, in base64 after `v1,`.
"""

import base64
import hashlib
import hmac
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mlplatform.environment import Environment
from mlplatform.errors import UserError

SECRET = "MLFLOW_WEBHOOK_SECRET"
MAX_AGE = 300  # seconds
LARGEST = 64 * 1024  # bytes


class WebhookError(UserError):
    """The receiver cannot start; the message says what is missing."""


class Guard:
    """Tells a genuine delivery from a wrong, old or repeated one.

    It remembers what it has seen since it began, so what was signed earlier is old.
    """

    def __init__(self, secret: str) -> None:
        if not secret:
            raise WebhookError(f"set {SECRET} to the secret of MLflow's webhook: unsigned requests start nothing")
        self._secret = secret.encode()
        self._began = int(time.time())
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()

    def refusal(self, headers: "Message[str, str] | Mapping[str, str]", body: bytes) -> str:
        """Why not to believe a delivery; nothing for a genuine one, which is known from then on."""
        names = ("Delivery-Id", "Timestamp", "Signature")
        delivery, stamp, signature = (headers.get(f"X-MLflow-{name}") or "" for name in names)
        digest = hmac.new(self._secret, f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
        expected = f"v1,{base64.b64encode(digest).decode()}"
        if not (delivery and stamp and hmac.compare_digest(signature.encode(), expected.encode())):
            return "it is not signed with the secret"
        now = time.time()
        if not max(self._began, now - MAX_AGE) <= int(stamp) <= now + MAX_AGE:
            return f"it is stale: signed at {stamp}"
        with self._lock:
            self._seen = {known: at for known, at in self._seen.items() if at >= now - MAX_AGE}
            if delivery in self._seen:
                return f"it is a replay of {delivery}"
            self._seen[delivery] = int(stamp)
        return ""


def asks_for_staging(body: bytes, model: str) -> str:
    """The version of `model` that the delivery says asks for Staging; nothing where it says anything else."""
    event = json.loads(body)
    data = event.get("data") or {}
    tag_set = (event.get("entity"), event.get("action")) == ("model_version_tag", "set")
    wanted = {"name": model, "key": "requested", "value": "Staging"}
    return str(data["version"]) if tag_set and wanted.items() <= data.items() else ""


class Receiver(ThreadingHTTPServer):
    """Listens for one environment's model, and hands each version that asks for Staging to `start`."""

    def __init__(
        self,
        address: tuple[str, int],
        guard: Guard,
        model: str,
        start: Callable[[str], None],
        log: Callable[[str], None],
    ) -> None:
        super().__init__(address, _Handler)
        self.guard, self.model, self.start, self.log = guard, model, start, log


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = 10

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length") or ""
        if not length.isdecimal() or int(length) > LARGEST:
            self._answer(413, f"its length is {length or 'not given'}")
            return
        body = self.rfile.read(int(length))
        refusal = self.server.guard.refusal(self.headers, body)
        if refusal:
            self._answer(401, refusal)
        elif version := asks_for_staging(body, self.server.model):
            self.server.start(version)
            self._answer(202, f"version {version} asks for Staging")
        else:
            self._answer(204, f"it is no request for Staging of {self.server.model}")

    def _answer(self, status: int, reason: str) -> None:
        self.server.log(f"delivery from {self.client_address[0]}: {status}, {reason}")
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name that the base class gives it)
        """Nothing: `_answer` has said more."""


def deployer(env: Environment, log: Callable[[str], None]) -> Callable[[str], None]:
    """A function that queues a run of `deploy`. One runs at a time, each in a process of its own without the secret."""
    waiting: queue.Queue[str] = queue.Queue()
    command = [sys.executable, "-m", env.project.package, "deploy", "--env", env.name]
    variables = {name: value for name, value in os.environ.items() if name != SECRET}

    def work() -> None:
        while version := waiting.get():
            log(f"deploy for version {version} starts")
            code = subprocess.call(command, cwd=env.folder, env=variables)
            log(f"deploy for version {version} ended with exit code {code}")

    threading.Thread(target=work, daemon=True).start()
    return waiting.put
