"""The CI platforms: who asks what passed, who approved, and tells the jobs that follow."""

from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from mlplatform.errors import ConfigError

# A repository has the module of the platform that was chosen for it.
HOSTS = {name: f"{__name__}.{name}" for name in ("github", "gitlab", "azure_devops", "by_hand")}


class Host(Protocol):
    """What each of these modules has; they say only what is special there."""

    def checks_passed(self, commit: str, branch: str) -> bool:
        """Whether the newest run of CI for this commit of `branch`, after its merge, succeeded."""

    def tag(self, name: str, commit: str) -> None:
        """Tag the commit where releases are kept."""

    def approval(self) -> tuple[str, str]:
        """Who let this job pass the platform's gate, and what they wrote; raises UserError where nobody did."""

    def disk_is_lost(self) -> bool:
        """Whether what this job leaves on its disk is gone after it."""

    def comment(self, text: str) -> None:
        """Show `text` on the merge request that the job runs for."""

    def output(self, name: str, value: str) -> None:
        """Hand a value to the jobs that follow."""


def host(name: str) -> Host:
    """The platform that `delivery.host` names. Raises ConfigError for one whose module is not here."""
    there = [name for name, module in HOSTS.items() if find_spec(module)]
    if name not in there:
        raise ConfigError(f"delivery.host: {name!r} is not supported here (choose from: {', '.join(there)})")
    return cast(Host, import_module(HOSTS[name]))
