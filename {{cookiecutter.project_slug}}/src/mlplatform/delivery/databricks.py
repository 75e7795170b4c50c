"""What only Databricks has: values for the tasks that follow, deployment jobs, and the approval on a version's page."""

from datetime import datetime

from mlplatform.errors import UserError
from mlplatform.registry.approval import decide
from mlplatform.registry.store import Registry
from mlplatform.registry.transitions import Decision

APPROVAL = "approval"  # the task of the deployment job, by whose name Databricks tags what a person approves


class NotApprovedError(UserError):
    """Nobody has approved the version yet. Databricks shows that it waits, and runs the task again afterwards."""


def hand_on(name: str, value: str) -> None:
    """Give a value to the tasks that follow: `{{tasks.<task>.values.<name>}}` is what they call it."""
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
