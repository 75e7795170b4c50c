"""What is asked and answered, as types made of the owner's project and of sql/entities.sql."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from mlplatform.contract import Project

TIMES = ("prediction_time", "available_at")
_WIDE = Context(prec=76)  # digits: as many as a decimal of Arrow has


def _naive(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except OverflowError as error:
        raise ValueError("the time is out of range") from error


class Prediction(BaseModel):
    """The answer for one row. `features_missing` had no value, `features_stale` had outlived their time to live."""

    model_config = ConfigDict(extra="allow")

    prediction: float | int | str | None = Field(description="a number, a class, or for yes and no the decision")
    probabilities: dict[str, float] | None = Field(description="by class; null where the model predicts a number")
    model_version: int
    variant: Literal["champion", "challenger"]
    feature_time: datetime | None = Field(description="UTC: the latest event that a feature speaks of")
    features_missing: list[str]
    features_stale: list[str]


class Answer(BaseModel):
    request_id: str
    model: str
    prediction_time: datetime = Field(description="UTC: features are as known then")
    predictions: list[Prediction]


class Problem(BaseModel):
    """Which field is wrong, and why."""

    field: str
    reason: str


class Refusal(BaseModel):
    error: str
    problems: list[Problem] = []


class Asked:
    """Reads request bodies: `{"rows": [{<key>: ..., <field>: ...}, ...]}`."""

    def __init__(self, project: Project, schema: pa.Schema, most: int, example: Mapping[str, Any]) -> None:
        """`schema`: of joined rows. `example`: values by the model's inputs, shown in the documentation."""
        entity = project.entity
        self.fields = fields(project, schema)
        types = {name: type_of(schema.field(name).type) for name in self.fields}
        row = _record("Row", {n: t if n in entity.keys else t | None for n, t in types.items()})
        rows = Annotated[list[row], Field(min_length=1, max_length=most)]  # type: ignore[valid-type]
        self._body: TypeAdapter[Any] = TypeAdapter(_record("Body", {"rows": rows}))
        shown = {name: _shown(example.get(name), schema.field(name).type) for name in self.fields}
        self.openapi = {
            "type": "object",
            "required": ["rows"],
            "additionalProperties": False,
            "properties": {
                "rows": {"type": "array", "minItems": 1, "maxItems": most, "items": TypeAdapter(row).json_schema()}
            },
            "examples": [{"rows": [shown]}],
        }

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        """The rows of a request. Raises pydantic's ValidationError."""
        rows: list[dict[str, Any]] = self._body.validate_json(body)["rows"]
        return rows


def fields(project: Project, schema: pa.Schema) -> tuple[str, ...]:
    """What a row of a request gives, of the columns of joined rows."""
    views = tuple(f"{view.name}__" for view in project.views)
    given = [name for name in schema.names if not name.startswith(views) and name not in ("feature_time", *TIMES)]
    return tuple(dict.fromkeys((*project.entity.keys, *(project.entity.fields or given))))


def problems(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What is wrong with a body, without what was in it."""
    return [{"field": ".".join(map(str, error["loc"])) or "body", "reason": error["msg"]} for error in errors]


def _record(name: str, types: Mapping[str, Any]) -> Any:
    """A dictionary with these keys and no others. Checked faster than a model, and ready to be used."""
    made = TypedDict(name, dict(types))  # type: ignore[misc]  # noqa: UP013
    return with_config(ConfigDict(extra="forbid", strict=True))(made)


def type_of(kind: pa.DataType) -> Any:
    """What pydantic checks a value of an Arrow type by."""
    if pa.types.is_boolean(kind):
        return bool
    if pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1) - 1
        return Annotated[int, Field(ge=-most - 1, le=most)]
    if pa.types.is_floating(kind):
        return Annotated[float, Field(allow_inf_nan=False)]
    if pa.types.is_timestamp(kind):
        return Annotated[datetime, AfterValidator(_naive)]
    if pa.types.is_date(kind):
        return date
    if pa.types.is_decimal(kind):
        exact = Annotated[Decimal, Field(max_digits=kind.precision, decimal_places=kind.scale)]
        # A key is looked up as text: 0.5, 5E-1 and 0.50 are one, of which the table has the last.
        place = Decimal(1).scaleb(-kind.scale)
        return Annotated[exact, AfterValidator(lambda value: _WIDE.plus(_WIDE.quantize(value, place)))]
    return Annotated[str, Field(max_length=10_000)]


def _shown(value: Any, kind: pa.DataType) -> Any:
    """What an example shows of a field: the value, or the first of some others, that a request may have."""
    checked = TypeAdapter(type_of(kind), config=ConfigDict(strict=True))
    for shown in (value, "an identifier", "2025-01-01T00:00:00Z", "2025-01-01", "1", 1, True):
        with suppress(ValidationError):
            checked.validate_json(json.dumps(shown))
            return shown
    return value
