"""Settings: conf/base.yml and conf/<env>.yml, merged, typed and checked before any work begins."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST = 365_000 * _UNITS["d"]  # so that no time minus a duration is before the first year


class Section(BaseModel):
    """One section, or a part of one: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([dhms])", str(value).strip())
    if not match:
        raise ValueError("a duration is a whole number and a unit: 7d, 12h, 30m or 45s")
    if (seconds := int(match[1]) * _UNITS[match[2]]) > _LONGEST:
        raise ValueError("a duration is at most 365000d")
    return timedelta(seconds=seconds)


def _some(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("it must be longer than zero")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Period = Annotated[Duration, AfterValidator(_some)]
