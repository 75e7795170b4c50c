"""Online inference on this project and its deliveries: one test per check."""

from mlplatform.testing import conformance, online

from {{ cookiecutter.package_name }}.deliveries import DELIVERIES
from {{ cookiecutter.package_name }}.project import PROJECT


@conformance.checks(PROJECT, DELIVERIES, online.CHECKS)
def test_online_inference_conforms(check: conformance.Check) -> None:
    check()
