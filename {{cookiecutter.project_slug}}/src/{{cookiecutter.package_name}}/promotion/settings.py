"""Settings of promotion: where an environment's models come from."""

from typing import Literal

from pydantic import Field

from ..config import Section


class Settings(Section):
    source: Literal["dev", "staging"] | None = Field(
        None, description="environment whose accepted versions are promoted here; null: models are trained here"
    )
