"""Conformance checks on Spark: of those that hold a project to what was known, which the engine has to answer."""

from collections.abc import Callable

import pytest
import yaml

from copies import make
from mlplatform.testing import conformance
from mlplatform.testing.conformance import World
from sparks import HERE

pytestmark = pytest.mark.spark
pytest.importorskip("pyspark")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny project, as an owner has it who has let its environments run on Spark."""
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "src")
        copy = make(folder)
        base = copy.folder / "conf" / "base.yml"
        settings = yaml.safe_load(base.read_text(encoding="utf-8"))
        settings["lakehouse"] |= {"engine": "spark", "spark": HERE}
        base.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return World(*copy.load())


CHECKS = (
    conformance.keys_are_unique,
    conformance.what_was_known_then_is_what_a_run_then_finds,
    conformance.the_future_changes_no_earlier_row,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_tiny_project_conforms(world: World, check: Callable[[World], None]) -> None:
    check(world)
