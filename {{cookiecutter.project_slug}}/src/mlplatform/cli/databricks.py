"""Commands that the bundle's jobs call beside those of the pipelines."""

from importlib.util import find_spec
from typing import Annotated

import typer

from mlplatform.cli import AsOfOption, EnvOption, environment, logical_time

app = typer.Typer(name="databricks", help="What the jobs in Databricks call, and nobody else.", no_args_is_help=True)


@app.command()
def due(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Tell the tasks that follow whether it is time to train."""
    from mlplatform.delivery.databricks import hand_on
    from mlplatform.pipelines import retrain

    reason = retrain.due(environment(env), logical_time(as_of))
    hand_on("due", "true" if reason else "false")
    typer.echo(reason or "retraining is not due (see pipelines.retraining)")


@app.command()
def connect(
    job: Annotated[int, typer.Argument(help="The id of the deployment job.")],
    env: EnvOption = "dev",
) -> None:
    """Let every new version of the model start the deployment job."""
    from mlplatform.delivery import databricks
    from mlplatform.registry.store import Registry

    registry = Registry(environment(env))
    databricks.connect(registry, job)
    typer.echo(f"new versions of {registry.model} start job {job}")


@app.command()
def approve(
    version: Annotated[int, typer.Argument(help="The version that started the deployment job.")],
    env: EnvOption = "dev",
    as_of: AsOfOption = None,
) -> None:
    """Put the version into Production, once a person has approved it on its page."""
    from mlplatform.delivery import databricks
    from mlplatform.registry.store import Registry

    at, now = environment(env), logical_time(as_of)
    with at.run("approve", now):
        typer.echo(databricks.approve(Registry(at), version, now))


@app.command(hidden=find_spec("mlplatform.serving") is None)  # an endpoint is for online inference
def publish(env: EnvOption = "dev", as_of: AsOfOption = None) -> None:
    """Let the serving endpoint answer with the champion; it is made once there is one."""
    from mlplatform.delivery import databricks
    from mlplatform.registry.store import Registry

    typer.echo(databricks.publish(Registry(environment(env)), logical_time(as_of)))
