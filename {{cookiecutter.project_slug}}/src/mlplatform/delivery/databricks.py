"""What only Databricks has: values for the tasks that follow, deployment jobs, and the approval on a version's page."""

import os
from datetime import datetime

from mlplatform.errors import UserError
from mlplatform.registry.approval import decide
from mlplatform.registry.store import Registry, told
from mlplatform.registry.transitions import Decision

APPROVAL = "approval"  # the task of the deployment job, by whose name Databricks tags what a person approves


class NotApprovedError(UserError):
    """Nobody has approved the version yet. Databricks shows that it waits, and runs the task again afterwards."""


def hand_on(name: str, value: str) -> None:
    """Give a value to the tasks that follow: `{{tasks.<task>.values.<name>}}` is what they call it.

    Raises UserError where no job of Databricks runs this.
    """
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        raise UserError(f"{name} = {value} is for the next task of a job in Databricks, and none runs this command")
    from databricks.sdk.runtime import dbutils

    dbutils.jobs.taskValues.set(key=name, value=value)


def connect(registry: Registry, job: int) -> None:
    """Let every new version of the model start the deployment job; makes the model where it is missing."""
    registry.make()
    registry.client.update_registered_model(registry.model, deployment_job_id=str(job))


def approve(registry: Registry, number: int, as_of: datetime) -> str:
    """Put a version that a person has approved on its page into Production; what was decided before stays.

    Returns what became of it; raises NotApprovedError and ApprovalError.
    """
    stage = registry.ledger.stage(number, as_of)
    if stage in ("Production", "Archived"):
        return f"version {number} is in {stage} already"
    if registry.version(number).tags.get(APPROVAL, "").lower() != "approved":
        raise NotApprovedError(f"{registry.model} version {number}: nobody has approved it on its page yet")
    reason = f"the tag {APPROVAL} of the version says so; system.access.audit says who set it"
    decide(registry, number, "approved", Decision(as_of, "Databricks deployment job", reason))
    return f"version {number} is approved, and in Production now"


def publish(registry: Registry, as_of: datetime) -> str:
    """Let the model's serving endpoint answer with the champion; it is made when there is one for the first time.

    Returns what became of it. Raises HTTPError where Databricks refuses.
    """
    from mlflow.deployments import get_deploy_client
    from requests import HTTPError

    champion = registry.ledger.champion(as_of)
    if champion is None:
        return f"{registry.model} has no champion yet, and so no endpoint"
    name = registry.model.replace(".", "-")
    served = {"entity_name": registry.model, "entity_version": str(champion), "name": f"version-{champion}"}
    settings = {"served_entities": [{**served, "workload_size": "Small", "scale_to_zero_enabled": True}]}
    client = get_deploy_client("databricks")
    try:
        with told("databricks"):
            client.get_endpoint(name)
    except HTTPError as error:
        if error.response is None or error.response.status_code != 404:
            raise
        client.create_endpoint(config={"name": name, "config": settings})
        return f"the endpoint {name} is made, with version {champion}"
    client.update_endpoint_config(name, settings)
    return f"the endpoint {name} changes to version {champion}"
