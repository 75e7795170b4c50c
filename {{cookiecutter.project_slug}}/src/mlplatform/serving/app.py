"""The server: requests in, features looked up, scores out."""

import asyncio
import os
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from mlplatform.config.serving import ServingSettings
from mlplatform.environment import Environment
from mlplatform.features.online import Found, OnlineFeatures, OnlineStoreError, micros, plain
from mlplatform.inference import kept
from mlplatform.registry.scoring import score_columns
from mlplatform.registry.store import Registry
from mlplatform.serving.access import Keys, Rate
from mlplatform.serving.champion import Served, Stage, Watch, alarm, joined_schema
from mlplatform.serving.log import LogFullError, LogWriter, Tally
from mlplatform.serving.requests import folder
from mlplatform.serving.rollout import Challenger
from mlplatform.serving.schema import Answer, Asked, Refusal, problems

Row = dict[str, Any]
_PROBLEMS = 50  # are told: a body of a megabyte may have a hundred thousand
_REFUSALS = {
    401: "an API key is needed in the header X-API-Key",
    408: "the body did not come in time",
    413: "the body is too large",
    422: "the body is not what /docs describes",
    429: "too many requests for this key",
    500: "the request failed",
    503: "no answer can be given now",
}


class _RefusedError(Exception):
    """A request that is not answered: the status, and what may be told."""

    def __init__(self, status: int, details: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(_REFUSALS[status])
        self.status, self.details = status, details


class _Answered(NamedTuple):
    """A request and its answer: `at` is its logical time, `scored_at` the wall clock's in microseconds since 1970."""

    request_id: str
    at: datetime
    scored_at: int
    seconds: float


class Service:
    """What a server holds of an environment. `clock`: the logical time (naive UTC) of its operator, no client's."""

    def __init__(self, env: Environment, clock: Callable[[], datetime]) -> None:
        self.env, self.clock, self.settings = env, clock, env.config.of(ServingSettings)
        self.registry = Registry(env)
        self.model = self.registry.model
        self.keys = Keys() if self.settings.keys == "required" else None
        self.rate = Rate(self.settings.limits.per_second)
        self.schema = joined_schema(env, clock())
        self.features = OnlineFeatures(env)
        ledger = self.registry.ledger
        self.champion = Stage(self.registry, self.schema, clock, ledger.champion)
        staging = Stage(self.registry, self.schema, clock, ledger.challenger)
        keys, rollout = env.project.entity.keys, self.settings.rollout
        self.challenger = Challenger(staging, rollout, keys, lambda *told: alarm(self.registry, clock(), *told))
        self._watch = Watch([self.champion, *([staging] if rollout.mode != "none" else [])], self.settings.poll)
        for stage in self._watch.stages:
            stage.look()
        example = self.champion.current.example if self.champion.current else {}
        self.asked = Asked(env.project, self.schema, self.settings.limits.rows, example)
        self.log = LogWriter(folder(env), self.settings.log, self.settings.limits.seconds)
        hidden = {*env.project.entity.sensitive}
        self._kept = [name for name in kept(env.project) if name not in hidden and name != "prediction_time"]
        self._told = [name for name in self.asked.fields if name not in hidden and name not in keys]

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()
        self.log.close()

    def unready(self) -> list[str]:
        """Why no request can be answered now."""
        reasons = [] if self.champion.current else ["no version is in Production"]
        try:
            if self.features.layout().as_of > self.clock():
                reasons.append("the features are newer than the server's clock")
        except OnlineStoreError:
            reasons.append("no features are published, or their store does not answer")
        return reasons + (["the request log cannot be written"] if self.log.error else [])

    async def predict(self, rows: list[Row], request_id: str) -> Row:
        """Answer checked rows, all by what is known at one moment. Raises _RefusedError."""
        started, now, champion = time.perf_counter(), self.clock(), self.champion.current
        if champion is None:
            raise _RefusedError(503)
        try:
            found = self.features.of(rows, now)
        except OnlineStoreError as error:
            raise _RefusedError(503) from error
        if self.features.as_of > now:
            raise _RefusedError(503)
        joined = [self._join(row, features, now) for row, features in zip(rows, found, strict=True)]
        scored = self._score(champion, joined)
        entries = list(zip(joined, found, scored, strict=True))
        answered = _Answered(request_id, now, time.time_ns() // 1000, time.perf_counter() - started)
        lines = [self._line(answered, number, *entry) for number, entry in enumerate(entries)]
        try:
            await self.log.write(lines)
        except LogFullError as error:
            raise _RefusedError(503) from error
        keys = self.env.project.entity.keys
        return {
            "request_id": request_id,
            "model": self.model,
            "prediction_time": now,
            "predictions": [
                {**{key: row[key] for key in keys}, **self._told_of(who, variant, columns, features)}
                for row, features, (who, variant, columns) in entries
            ],
        }

    async def shadow(self, rows: list[Row], answer: Row) -> None:
        """Let the challenger score what the champion has answered, and log that; nobody is told."""
        challenger, now = self.challenger.shadow(), answer["prediction_time"]
        if challenger is None:
            return
        started, failed = time.perf_counter(), False
        try:
            found = self.features.of(rows, now)
            joined = [self._join(row, features, now) for row, features in zip(rows, found, strict=True)]
            columns = self._columns(challenger, challenger.scores(joined))
            answered = _Answered(answer["request_id"], now, time.time_ns() // 1000, time.perf_counter() - started)
            lines = [
                self._line(answered, n, row, features, (challenger, "shadow", scores))
                for n, (row, features, scores) in enumerate(zip(joined, found, columns, strict=True))
            ]
            await self.log.write(lines)
        except Exception:
            failed = True
            sys.stderr.write(traceback.format_exc())
        self.challenger.saw(challenger, failed, time.perf_counter() - started)

    def _join(self, row: Row, features: Found, now: datetime) -> Row:
        joined = dict.fromkeys(self.schema.names)
        joined.update(row)
        joined.update(features.values)
        joined.update(prediction_time=now, available_at=now, feature_time=features.feature_time)
        return joined

    def _score(self, champion: Served, joined: list[Row]) -> list[tuple[Served, str, Row]]:
        """Who answers each row, as what, and the columns that predictions hold of it."""
        mine = [self.challenger.answers(row) for row in joined]
        answers: list[tuple[Served, str, Row] | None] = [None] * len(joined)
        for challenger in {served.version: served for served in mine if served is not None}.values():
            places = [place for place, served in enumerate(mine) if served is challenger]
            started, failed = time.perf_counter(), False
            try:
                columns = self._columns(challenger, challenger.scores([joined[place] for place in places]))
            except Exception:  # the champion answers, and the rollback rule counts
                failed, columns = True, []
                sys.stderr.write(traceback.format_exc())
            self.challenger.saw(challenger, failed, time.perf_counter() - started)
            for place, scores in zip(places, columns, strict=False):
                answers[place] = (challenger, "challenger", scores)
        places = [place for place, known in enumerate(answers) if known is None]
        if places:
            columns = self._columns(champion, champion.scores([joined[place] for place in places]))
            for place, scores in zip(places, columns, strict=True):
                answers[place] = (champion, "champion", scores)
        return [answer for answer in answers if answer is not None]

    def _columns(self, served: Served, scores: Any) -> list[Row]:
        columns = {n: v.tolist() for n, v in score_columns(self.env.project.labels, scores, served.threshold).items()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _told_of(self, served: Served, variant: str, columns: Row, features: Found) -> Row:
        labels = self.env.project.labels
        chances = None
        if labels.classes:
            chances = {name: columns[f"score__{name}"] for name in labels.classes}
        elif labels.kind == "binary":
            chances = {"0": 1 - columns["score"], "1": columns["score"]}
        return {
            "prediction": columns["score"] if labels.kind == "number" else columns.get("prediction"),
            "probabilities": chances,
            "model_version": served.version,
            "variant": variant,
            "feature_time": features.feature_time,
            "features_missing": features.missing,
            "features_stale": features.stale,
        }

    def _line(
        self, answered: _Answered, number: int, row: Row, features: Found, scored: tuple[Served, str, Row]
    ) -> bytes:
        served, variant, columns = scored
        return orjson.dumps(
            {
                "request_id": answered.request_id,
                "request_row": number,
                "prediction_time": micros(answered.at),
                "kept": {name: plain(row[name]) for name in self._kept},
                "request": orjson.dumps({name: plain(row[name]) for name in self._told}).decode(),
                "scored": columns,
                "variant": variant,
                "features": orjson.dumps({name: plain(value) for name, value in features.values.items()}).decode(),
                "features_missing": len(features.missing),
                "features_stale": len(features.stale),
                "model": self.model,
                "model_version": served.version,
                "run_id": served.run_id,
                "scored_at": answered.scored_at,
                "seconds": answered.seconds,
            }
        )


class Meters:
    """What /metrics tells."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time
        self.answers = Counter("serving_requests", "Requests by status", ["status"], registry=self.registry)
        buckets = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
        self.seconds = Histogram("serving_seconds", "Time of a request", registry=self.registry, buckets=buckets)
        self.rows = Counter("serving_rows", "Rows predicted", registry=self.registry)

        def gauge(name: str, what: str, value: Callable[[], float]) -> None:
            Gauge(name, what, registry=self.registry).set_function(value)

        def age() -> float:
            return (service.clock() - service.features.as_of).total_seconds()

        gauge("serving_model_version", "Who answers; 0: nobody", lambda: float(_version(service.champion.current)))
        gauge("serving_swaps", "How often another version took over", lambda: float(service.champion.swaps))
        gauge("serving_features_age_seconds", "Time since the features were published", age)
        gauge("serving_log_pending", "Lines that are not on disk yet", lambda: float(service.log.pending))


def application(service: Service) -> FastAPI:
    """The HTTP application; see /docs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        told = asyncio.create_task(tell())
        yield
        told.cancel()
        await tally.tell(service.log, service.clock())
        await asyncio.to_thread(service.stop)

    async def tell() -> None:
        while True:
            await asyncio.sleep(service.settings.log.segment.total_seconds())
            await tally.tell(service.log, service.clock())

    app = FastAPI(
        title=service.env.title,
        description=service.env.project.card.description,
        version=f"{service.model} version {_version(service.champion.current)}",
        lifespan=lifespan,
    )
    meters, tally, limits, active = Meters(service), Tally(), service.settings.limits, 0
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": text} for status, text in _REFUSALS.items()
    }
    body = {"required": True, "content": {"application/json": {"schema": service.asked.openapi}}}
    key: list[dict[str, list[str]]] = [{"key": []}] if service.keys else []

    @app.post(
        "/predict",
        response_model=Answer,
        responses=responses,
        openapi_extra={"requestBody": body, "security": key},
        summary="Predict for one or more entities",
    )
    async def predict(request: Request) -> Response:
        nonlocal active
        started, status = time.perf_counter(), 500
        active += 1
        try:
            if service.keys is not None:
                who = service.keys.who(request.headers.get("x-api-key", ""))
                if who is None:
                    raise _RefusedError(401)
            else:
                who = "anybody"
            if not service.rate.allows(who):
                raise _RefusedError(429)
            if active > limits.at_once:
                raise _RefusedError(503)
            rows = service.asked.rows(await _body(request, limits.body, limits.seconds))
            answer = await service.predict(rows, uuid.UUID(bytes=os.urandom(16)).hex)
            meters.rows.inc(len(rows))
            response = Response(
                orjson.dumps(answer, default=str, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z),
                media_type="application/json",
            )
            if service.settings.rollout.mode == "shadow":
                from starlette.background import BackgroundTask

                response.background = BackgroundTask(service.shadow, rows, answer)
        except ValidationError as error:
            response = _refused(
                _RefusedError(422, problems(error.errors(include_input=False, include_url=False)[:_PROBLEMS]))
            )
        except _RefusedError as error:
            response = _refused(error)
        except Exception:  # told to the operator, not to the client
            sys.stderr.write(traceback.format_exc())
            response = _refused(_RefusedError(500))
        finally:
            active -= 1
        status = response.status_code
        meters.answers.labels(str(status)).inc()
        seconds = time.perf_counter() - started
        meters.seconds.observe(seconds)
        tally.saw(status, seconds)
        return response

    @app.get("/health", summary="The process runs")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Requests can be answered", responses={503: {"model": Refusal}})
    async def ready() -> Response:
        reasons = service.unready()
        told = {"error": "not ready", "problems": [{"field": "server", "reason": reason} for reason in reasons]}
        ready_ = {"status": "ready", "model": service.model, "model_version": _version(service.champion.current)}
        return Response(
            orjson.dumps(told if reasons else ready_), 503 if reasons else 200, media_type="application/json"
        )

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(meters.registry), media_type="text/plain; version=0.0.4")

    if service.keys:
        _declare_key(app)
    return app


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """The body, of which no more than `most` bytes are read."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _RefusedError(413)
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _RefusedError(413)
                parts.append(part)
    except (TimeoutError, ClientDisconnect) as error:
        raise _RefusedError(408) from error
    return b"".join(parts)


def _refused(error: _RefusedError) -> Response:
    waits = {"Retry-After": "1"} if error.status in (429, 503) else {}
    told = {"error": str(error), "problems": list(error.details)}
    return Response(orjson.dumps(told), error.status, headers=waits, media_type="application/json")


def _version(served: Served | None) -> int:
    return served.version if served else 0


def _declare_key(app: FastAPI) -> None:
    """Say in the OpenAPI document how a key is given."""
    made = app.openapi()
    made.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    }
