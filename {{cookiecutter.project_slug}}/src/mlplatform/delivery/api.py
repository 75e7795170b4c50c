"""Calls of the CI platform's API: JSON in, JSON out."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from mlplatform.errors import UserError


class PlatformError(UserError):
    """The platform did not do what was asked of it, or does not say what is needed."""


def call(method: str, url: str, headers: Mapping[str, str], body: object = None) -> Any:
    """Send a request and return what the answer holds; raises PlatformError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        detail = error.read(300).decode(errors="replace")
        raise PlatformError(f"{method} {url}: {error.code} {error.reason} {detail}") from error
    except (OSError, ValueError) as error:
        raise PlatformError(f"{method} {url}: {error}") from error
