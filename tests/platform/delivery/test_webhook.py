"""The webhook's receiver: a genuine request for Staging starts one run; anything else is refused, and nothing runs."""

import base64
import hashlib
import hmac
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform.delivery.webhook import LARGEST, MAX_AGE, Guard, Receiver, WebhookError, deployer

MODEL, SECRET = "prod.delays", "only MLflow and the receiver know"


def event(**changes: str) -> dict[str, Any]:
    """What MLflow sends when a tag of a version is set, with the given changes of its data."""
    data = {"name": MODEL, "version": "7", "key": "requested", "value": "Staging"} | changes
    return {"entity": "model_version_tag", "action": "set", "timestamp": "2026-01-01T00:00:00+00:00", "data": data}


def signed(body: bytes, secret: str = SECRET, age: float = 0, delivery: str = "") -> dict[str, str]:
    """The headers that MLflow gives to a delivery, `age` seconds ago."""
    delivery, stamp = delivery or str(uuid.uuid4()), str(int(time.time() - age))
    digest = hmac.new(secret.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp, "X-MLflow-Signature": signature}


@pytest.fixture
def started() -> list[str]:
    """The versions for which a run was started."""
    return []


@pytest.fixture
def receiver(started: list[str]) -> Iterator[Receiver]:
    guard = Guard(SECRET)
    guard._began -= 2 * MAX_AGE  # it has listened for a while
    with Receiver(("127.0.0.1", 0), guard, MODEL, started.append, lambda line: None) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


def post(receiver: Receiver, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", receiver.server_port, timeout=10)
    try:
        connection.request("POST", "/", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


BODY = json.dumps(event()).encode()


def test_a_genuine_request_for_staging_starts_one_run(receiver: Receiver, started: list[str]) -> None:
    assert post(receiver, BODY, signed(BODY)) == 202
    assert started == ["7"]


def test_the_signature_is_the_one_that_mlflow_makes() -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = signed(BODY)
    delivery, stamp, signature = headers.values()
    assert _generate_hmac_signature(SECRET, delivery, stamp, BODY.decode()) == signature


def without(name: str) -> Callable[[], dict[str, str]]:
    return lambda: {key: value for key, value in signed(BODY).items() if key != name}


def changed(name: str, value: str) -> Callable[[], dict[str, str]]:
    return lambda: {**signed(BODY), name: value}


REFUSED: dict[str, Callable[[], dict[str, str]]] = {
    "no headers": dict,
    "no signature": without("X-MLflow-Signature"),
    "no timestamp": without("X-MLflow-Timestamp"),
    "no delivery id": without("X-MLflow-Delivery-Id"),
    "another secret": lambda: signed(BODY, secret="a guess"),
    "an empty secret": lambda: signed(BODY, secret=""),
    "another body": lambda: signed(BODY.replace(b"7", b"8")),
    "another delivery id": changed("X-MLflow-Delivery-Id", "another"),
    "another timestamp": changed("X-MLflow-Timestamp", str(int(time.time()) + 1)),
    "no number for a timestamp": changed("X-MLflow-Timestamp", "now"),
    "another version of signatures": changed("X-MLflow-Signature", "v2,AAAA"),
    "stale": lambda: signed(BODY, age=MAX_AGE + 10),
    "from the future": lambda: signed(BODY, age=-MAX_AGE - 10),
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=list(REFUSED))
def test_what_is_not_genuine_is_refused_and_nothing_runs(
    receiver: Receiver, started: list[str], headers: Callable[[], dict[str, str]]
) -> None:
    assert post(receiver, BODY, headers()) == 401
    assert started == []


def test_a_delivery_counts_once(receiver: Receiver, started: list[str]) -> None:
    headers = signed(BODY, age=MAX_AGE - 60)  # it is remembered for as long as it would be taken
    assert [post(receiver, BODY, headers) for _ in range(3)] == [202, 401, 401]
    assert post(receiver, BODY, signed(BODY, delivery=headers["X-MLflow-Delivery-Id"], age=1)) == 401
    assert post(receiver, BODY, signed(BODY)) == 202
    assert started == ["7", "7"]


def test_a_replay_after_a_restart_is_refused() -> None:
    headers = signed(BODY, age=2)
    assert Guard(SECRET).refusal(headers, BODY).startswith("it is stale")


OTHERS: dict[str, dict[str, Any]] = {
    "another model": event(name="dev.delays"),
    "another tag": event(key="stage"),
    "a request for Production": event(value="Production"),
    "no request any more": event(value="None"),
    "a tag that is deleted": {**event(), "action": "deleted"},
    "another event": {"entity": "registered_model", "action": "created", "data": {"name": MODEL}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_what_is_genuine_and_about_something_else_starts_nothing(
    receiver: Receiver, started: list[str], other: dict[str, Any]
) -> None:
    body = json.dumps(other).encode()
    assert post(receiver, body, signed(body)) == 204
    assert started == []


def test_a_body_that_is_too_long_is_not_read(receiver: Receiver, started: list[str]) -> None:
    assert post(receiver, b"", {"Content-Length": str(LARGEST + 1)}) == 413
    assert started == []


def test_what_a_request_starts_does_not_know_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET", SECRET)
    (tmp_path / "owner.py").write_text("import os, sys\nprint(*sys.argv[1:], os.environ, file=open('seen', 'w'))\n")
    project: Any = SimpleNamespace(package="owner")
    env: Any = SimpleNamespace(project=project, name="prod", folder=tmp_path)
    ended = threading.Event()
    deployer(env, lambda line: ended.set() if "ended with exit code 0" in line else None)("7")
    assert ended.wait(30)
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("deploy --env prod environ(")
    assert SECRET not in seen


def test_without_a_secret_nobody_listens() -> None:
    with pytest.raises(WebhookError, match="set MLFLOW_WEBHOOK_SECRET"):
        Guard("")
