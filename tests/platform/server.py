"""A server under test: what tests hold of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from mlplatform.serving.app import Service


@dataclass
class Running:
    """A server, a client of it with a key, and the clock that its operator turns."""

    service: Service
    client: httpx.Client
    times: list[datetime]

    def predict(self, *rows: dict[str, Any]) -> httpx.Response:
        return self.client.post("/predict", json={"rows": list(rows)})


Start = Callable[..., Running]
