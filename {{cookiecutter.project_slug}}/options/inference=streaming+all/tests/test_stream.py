"""What the platform asks of any project whose events are streamed, tried on this one."""

from mlplatform.testing import conformance, streaming

from {{ cookiecutter.package_name }}.deliveries import DELIVERIES
from {{ cookiecutter.package_name }}.project import PROJECT


@conformance.checks(PROJECT, DELIVERIES, streaming.CHECKS)
def test_the_project_can_be_streamed(check: conformance.Check) -> None:
    check()
