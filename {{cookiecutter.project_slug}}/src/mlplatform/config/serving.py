"""Settings of online inference: the online feature store, the server, its limits and its request log."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mlplatform.config import Period, Section

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Online(Section):
    """Where feature values are looked up by key."""

    store: str = "sqlite"
    folder: str = Field(
        default="data/online", description="sqlite: its file is <folder>/<env>.db, from the project's root"
    )
    url: str = Field(default="ONLINE_STORE_URL", description="redis: the environment variable that holds its address")


class Limits(Section):
    """What one client, and all of them together, may ask for."""

    body: PositiveInt = Field(default=1_000_000, description="bytes of a request")
    rows: PositiveInt = Field(default=1_000, description="rows of a request")
    per_second: PositiveFloat = Field(default=1_000.0, description="requests per key, over a second")
    seconds: PositiveFloat = Field(default=5.0, description="for a body to come, and for the log to have room")
    at_once: PositiveInt = Field(
        default=200, description="requests that are being answered; more are told to come back"
    )


class RequestLog(Section):
    """`strict`: on disk before the answer. `batched`: on disk within `interval`, which a crash can lose."""

    folder: str = Field(default="data/requests", description="from the project's root; `ingest` empties <folder>/<env>")
    durability: Literal["strict", "batched"] = "batched"
    interval: Period = timedelta(seconds=1)
    segment: Period = Field(
        default=timedelta(minutes=1), description="so long a file is written before the next begins"
    )
    pending: PositiveInt = Field(
        default=10_000, description="rows that wait for the disk: where there are more, requests wait"
    )


class Rollout(Section):
    """What the version in Staging does while it waits.

    shadow: it scores too, and is never returned. canary, ab: it answers for a `share` of the entities, by their hash.
    The rollback rule takes it out of the way, and raises an alert, when of its last `window` requests more than
    `max_errors` failed or their mean time was above `max_seconds`.
    """

    mode: Literal["none", "shadow", "canary", "ab"] = "none"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    window: PositiveInt = 100
    max_errors: Annotated[int, Field(ge=0)] = 0
    max_seconds: PositiveFloat = 0.1
    decides_after: Period | None = Field(
        default=None,
        description="so long after its first answer, and when the labels of that are in, the gate takes or refuses the "
        "version by what the rollout has shown; null: the gate does not wait for one",
    )

    @property
    def decides(self) -> bool:
        """Whether the gate waits for a rollout."""
        return self.mode != "none" and self.decides_after is not None


class Load(Section):
    """The load test, and the most (for `per_second` the least) that it may find. `p50` and `p99` are seconds."""

    clients: PositiveInt = 4
    seconds: PositiveFloat = 10.0
    failed: Annotated[int, Field(ge=0)] = 0
    per_second: PositiveFloat = 50.0
    p50: PositiveFloat = 0.05
    p99: PositiveFloat = 0.5


class ServingSettings(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    keys: Literal["required", "none"] = Field(default="required", description="none: anybody on this machine may ask")
    online: Online = Online()
    limits: Limits = Limits()
    log: RequestLog = RequestLog()
    rollout: Rollout = Rollout()
    load: Load = Load()
    poll: Period = Field(default=timedelta(seconds=5), description="how often the server looks who is champion")
    proof_rows: PositiveInt = Field(
        default=200, description="held-out rows on which a quick scorer must equal the model"
    )

    @model_validator(mode="after")
    def _is_closed(self) -> Self:
        if self.keys == "none" and self.host not in LOOPBACK:
            raise ValueError(f"'keys: none' is for {', '.join(LOOPBACK)}: a server that others reach asks for keys")
        return self
