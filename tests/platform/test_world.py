"""The world that the tests share: what a test does to its copy stays there."""

from datetime import datetime

from mlplatform.environment import Environment
from mlplatform.registry.store import Registry


def test_a_copy_of_the_world_has_a_registry_of_its_own(prod: Environment, now: datetime) -> None:
    (version,) = Registry(prod).versions()
    assert Registry(prod).ledger.champion(now) == int(version.version)
    assert Registry(prod).files(int(version.version)).is_relative_to(prod.folder)
