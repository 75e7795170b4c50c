"""MLflow's client for models in Unity Catalog, whose tags are stricter: no stages there, aliases and tags only.

A key of a tag holds none of `. , - = / :`, so they are written in another way; a search gives versions without tags.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAGE = 100


class UnityClient:
    """The client with tags as the rest of the registry knows them; all else is MLflow's."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def search_model_versions(self, filter_string: str, max_results: int) -> list[Any]:
        """All versions, each with its tags."""
        found: list[Any] = []
        token = None
        while token is None or token:
            limit = min(_PAGE, max_results)
            page = self._client.search_model_versions(filter_string, max_results=limit, page_token=token)
            found += [self.get_model_version(version.name, str(version.version)) for version in page]
            token = page.token or ""
        return found

    def get_model_version(self, name: str, version: str) -> Any:
        return _decoded(self._client.get_model_version(name, version))

    def create_model_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str], **more: Any) -> Any:
        encoded = {encode(key): value for key, value in tags.items()}
        return _decoded(self._client.create_model_version(name, source, run_id, encoded, **more))

    def copy_model_version(self, source: str, name: str) -> Any:
        return _decoded(self._client.copy_model_version(source, name))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self._client.set_model_version_tag(name, version, encode(key), value)


def encode(key: str) -> str:
    """The key with `_x2e_` for a full stop, and so on."""
    return re.sub(r"[.,=/: -]", lambda match: f"_x{ord(match[0]):02x}_", key)


def decode(key: str) -> str:
    return re.sub(r"_x(2e|2c|3d|2f|3a|20|2d)_", lambda match: chr(int(match[1], 16)), key)


def _decoded(version: Any) -> Any:
    version._tags = {decode(key): value for key, value in version.tags.items()}
    return version
