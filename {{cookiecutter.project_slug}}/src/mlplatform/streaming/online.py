"""The online feature store, kept up to date by the stream: `streaming.sinks: [online]`."""

from datetime import datetime

from mlplatform.environment import Environment
from mlplatform.features.online import STATE, OnlineStoreError, open_store, publish
from mlplatform.streaming.events import UnavailableError


class OnlineSink:
    """Publishes feature values at the end of each micro-batch, as `materialize` does."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        open_store(env, write=True).read([STATE])

    def publish(self, as_of: datetime) -> int:
        try:
            return sum(publish(self._env, as_of).values())
        except OnlineStoreError as error:
            raise UnavailableError(str(error)) from error

    def close(self) -> None:
        """Nothing is open."""
