"""Settings: conf/base.yml and conf/<env>.yml, merged, typed and checked before any work begins."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


class Section(BaseModel):
    """One section, or a part of one: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([dhms])", str(value).strip())
    if not match:
        raise ValueError("a duration is a whole number and a unit: 7d, 12h, 30m or 45s")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]
