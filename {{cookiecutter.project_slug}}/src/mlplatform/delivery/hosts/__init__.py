"""The CI platforms: who asks what passed, who approved, and tells the jobs that follow."""

from importlib import import_module
from typing import Protocol, cast

HOSTS = {name: f"{__name__}.{name}" for name in ("github", "gitlab", "azure_devops", "by_hand")}


class Host(Protocol):
    """What each of these modules has."""

    def checks_passed(self, commit: str, branch: str) -> bool:
        """Whether the newest run of CI for this commit of `branch`, after its merge, succeeded."""

    def tag(self, name: str, commit: str) -> None:
        """Tag the commit where releases are kept."""

    def approval(self) -> tuple[str, str]:
        """Who let this job pass the platform's gate, and what they wrote; raises UserError where nobody did."""

    def comment(self, text: str) -> None:
        """Show `text` on the merge request that the job runs for."""

    def output(self, name: str, value: str) -> None:
        """Hand a value to the jobs that follow."""


def host(name: str) -> Host:
    """The platform that `delivery.host` names."""
    return cast(Host, import_module(HOSTS[name]))
