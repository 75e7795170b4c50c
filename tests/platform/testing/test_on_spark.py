"""Every conformance check, on Spark."""

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


# Those that run the whole life cycle several times.
LONG = (
    conformance.a_backfill_equals_increments,
    conformance.running_twice_changes_nothing,
    conformance.killed_pipelines_end_as_if_nothing_had_happened,
)
CHECKS = [
    pytest.param(check, id=check.__name__, marks=pytest.mark.nightly if check in LONG else ())
    for check in conformance.CHECKS
]


@pytest.mark.xdist_group("conformance on Spark")
@pytest.mark.parametrize("check", CHECKS)
def test_the_tiny_project_conforms(world: World, check: Callable[[World], None]) -> None:
    check(world)
