"""The entity is a tissue sample; its measurements come with it, so there are no feature views."""

from mlplatform.contract import Entity, FeatureView

ENTITY = Entity(keys=("sample_id",), description="A tissue sample.")
VIEWS: tuple[FeatureView, ...] = ()
