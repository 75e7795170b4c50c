"""What the platform asks of any project, tried on this one and its deliveries: one test per check."""

from mlplatform.testing import conformance

from {{ cookiecutter.package_name }}.deliveries import DELIVERIES
from {{ cookiecutter.package_name }}.project import PROJECT


@conformance.checks(PROJECT, DELIVERIES)
def test_the_project_conforms(check: conformance.Check) -> None:
    check()
