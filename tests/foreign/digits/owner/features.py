"""The entity is an image; all that is known of it is in the entity itself, so there are no feature views."""

from mlplatform.contract import Entity, FeatureView

ENTITY = Entity(keys=("image_id",), description="A scanned digit.")
VIEWS: tuple[FeatureView, ...] = ()
