"""Settings of promotion: where an environment's models come from."""

from typing import Literal

from pydantic import Field

from mlplatform.config import Section


class PromotionSettings(Section):
    source: Literal["dev", "staging"] | None = Field(
        None, description="environment whose accepted versions are promoted here; null: models are trained here"
    )
