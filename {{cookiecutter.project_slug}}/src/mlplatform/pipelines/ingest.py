"""Ingest and prepare: landing files to Bronze as received, Bronze to Silver by SQL and contract."""

from datetime import datetime

from mlplatform.environment import Environment, Run
from mlplatform.preparation.bronze import load_bronze
from mlplatform.preparation.silver import refresh_silver
from mlplatform.storage.catalog import option


def ingest(env: Environment, as_of: datetime) -> Run:
    """Bring Bronze and Silver up to what had landed by `as_of`.

    What servers have answered by then becomes predictions, where there are servers.

    Every row that lands ends in Silver or, with the reason, in quarantine. Raises ContractError, and leaves the table
    and its quarantine as they were, when more than the configured share of a batch would be refused.
    """
    env.refuse_to_build_what_is_borrowed()
    with env.run("ingest", as_of) as run:
        load_bronze(env, run)
        for table in env.project.tables:
            refresh_silver(env, run, table)
        if take_in := option("mlplatform.serving.requests:take_in"):
            take_in(env, run)
        if not run.written and not run.notes:
            origins = dict.fromkeys(source.origin(env.landing) for source in env.project.sources)
            run.note(f"nothing new in {', '.join(origins)}")
        return run
