"""Featurize: bring every feature table up to a time."""

from datetime import datetime

from mlplatform.environment import Environment, Run
from mlplatform.errors import ConfigError
from mlplatform.features import columns, refresh
from mlplatform.registry.scoring import new_features
from mlplatform.registry.store import Registry


def featurize(env: Environment, as_of: datetime, *, backfill: bool = False) -> Run:
    """Refresh the window that changed since the last run; with `backfill`, or of a new view, all from the start.

    Views declared external are checked, never written.
    """
    env.refuse_to_build_what_is_borrowed()
    external = {view.view for view in env.config.lakehouse.external_views}
    unknown = external - {view.name for view in env.project.views}
    if unknown:
        raise ConfigError(f"lakehouse.external_views: there is no view {', '.join(sorted(unknown))}")
    with env.run("featurize", as_of) as run:
        since = None if backfill else env.last_finished("featurize", before=as_of)
        for name, new in new_features(Registry(env), as_of).items():
            if since:
                run.note(f"{name}: earlier rows have no {', '.join(new)} until `featurize --backfill`")
        for view in env.project.views:
            if view.name in external:
                table = env.find(view.table)
                run.note(f"{view.table} is external: {len(columns(view, table.schema)) if table else 0} features read")
            else:
                run.wrote(view.table, refresh(env, view, as_of, since if env.catalog.exists(view.table) else None))
        return run
