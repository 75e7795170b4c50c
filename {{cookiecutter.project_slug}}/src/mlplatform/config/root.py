"""All settings of one environment, section by section."""

import hashlib
import json
from typing import Any

from mlplatform.config.delivery import DeliverySettings
from mlplatform.config.lakehouse import LakehouseSettings
from mlplatform.config.monitoring import MonitoringSettings
from mlplatform.config.pipelines import PipelineSettings
from mlplatform.config.promotion import PromotionSettings
from mlplatform.config.registry import RegistrySettings
from mlplatform.config.section import Section
from mlplatform.config.serving import ServingSettings
from mlplatform.config.streaming import StreamingSettings
from mlplatform.config.training import TrainingSettings


class Config(Section):
    """The checked sections of one environment; a section is declared by the module of its name."""

    lakehouse: LakehouseSettings
    training: TrainingSettings
    pipelines: PipelineSettings
    registry: RegistrySettings
    monitoring: MonitoringSettings
    promotion: PromotionSettings
    delivery: DeliverySettings
    serving: ServingSettings
    streaming: StreamingSettings

    def as_dict(self) -> dict[str, Any]:
        """All values, ready for JSON."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Identifies what can change a model: every section's values, as 12 hexadecimal characters."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
