"""Promote: bring the model that another environment has accepted into this one, and ask for Staging."""

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from mlplatform.config.promotion import PromotionSettings
from mlplatform.environment import Environment, Run
from mlplatform.pipelines.train import request_staging
from mlplatform.registry.store import Registry
from mlplatform.registry.transfer import PromotionError, copy_version, export_version, import_version


def promote(env: Environment, as_of: datetime, folder: Path | None = None) -> Run:
    """Make the version that `promotion.source` has in Production a version of `env`, to go through its own gates.

    The artifact is the same; a version is looked for before it is made. With `folder` it comes from what
    `export` has written there. Raises PromotionError where that is not allowed.
    """
    registry, source = Registry(env), env.config.of(PromotionSettings).source
    if source is None:
        raise PromotionError(f"{env.name} trains its own models: nothing is promoted here (promotion.source is null)")
    with env.run("promote", as_of) as run:
        number = import_version(folder, source, registry, as_of) if folder else _fetch(env, source, registry, as_of)
        if number is None:
            run.note(f"{source} has accepted no version by {as_of}: nothing to promote")
            return run
        tags = registry.tags(number)
        origin = f"accepted in {source} as version {tags.promoted_version}"
        request_staging(registry, number, as_of, origin, by="promote")
        run.note(f"{registry.model} version {number}: {origin}; {tags.summary}")
        return run


def promoting(env: Environment) -> Callable[..., Run] | None:
    """`promote`, where the environment's models come from another one."""
    return promote if env.config.of(PromotionSettings).source else None


def chain(env: Environment) -> list[str]:
    """The environment, the one that its models come from, and so on to the one that trains them."""
    names = [env.name]
    while (source := env.config_of(names[-1]).of(PromotionSettings).source) and source not in names:
        names.append(source)
    return names


def _fetch(env: Environment, source: str, registry: Registry, as_of: datetime) -> int | None:
    """Copy the accepted version inside the one store; where `source` has a store of its own, export and import it."""
    settings = env.config_of(source).registry
    origin = Registry(env, source, settings)
    accepted = origin.ledger.champion(as_of)
    if accepted is None:
        return None
    if settings.tracking_uri == registry.settings.tracking_uri:
        return copy_version(origin, accepted, registry, as_of)
    with tempfile.TemporaryDirectory() as work:
        export_version(origin, accepted, Path(work, "version"))
        return import_version(Path(work, "version"), source, registry, as_of)
