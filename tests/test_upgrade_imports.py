"""Imports in an owner's Python file after modules have moved."""

import pytest
from imports import lost, rewrite
from migrations import Migration
from moves import Moves

FILES = {
    "src/shop/tables.py": "src/platform/delta.py",
    "src/shop/jobs/": "src/platform/jobs/",
    "src/shop/usecase/": "src/shop/",
    "src/shop/usecase/columns.py": "src/shop/features.py",
}
NAMES = {"shop.tables.View": "platform.contract.View", "shop.usecase.columns.OLD": "shop.features.NEW"}
OURS = [
    "src/shop/__init__.py",
    "src/shop/tables.py",
    "src/shop/jobs/__init__.py",
    "src/shop/jobs/run.py",
    "src/shop/usecase/__init__.py",
    "src/shop/usecase/columns.py",
    "src/shop/usecase/mine.py",
]
MOVES = Moves([Migration(files=dict(FILES), names=NAMES)], OURS, OURS, [])
MINE, OUTSIDE, JOB = "src/shop/usecase/mine.py", "scripts/mine.py", "src/shop/jobs/run.py"


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (MINE, "from ..tables import Catalog\n", "from platform.delta import Catalog\n"),
        (MINE, "from ..tables import Catalog  # why\n", "from platform.delta import Catalog  # why\n"),
        (MINE, "from .columns import A\n", "from .features import A\n"),
        (MINE, "from .columns import OLD\n", "from .features import NEW as OLD\n"),
        (MINE, "from .columns import OLD as X\n", "from .features import NEW as X\n"),
        (MINE, "from . import columns\n", "from . import features as columns\n"),
        (MINE, "from .. import tables\n", "from platform import delta as tables\n"),
        (MINE, "from ..jobs.run import go\n", "from platform.jobs.run import go\n"),
        (MINE, "def f():\n    from ..tables import A\n", "def f():\n    from platform.delta import A\n"),
        (
            MINE,
            "from ..tables import A, View\n",
            "from platform.delta import A\nfrom platform.contract import View\n",
        ),
        (
            MINE,
            "from ..tables import (\n    A,  # kept\n    B,\n)\n",
            "from platform.delta import (\n    A,  # kept\n    B,\n)\n",
        ),
        (
            MINE,
            "from ..tables import (\n    A,  # kept\n    View,\n)\n",
            "# kept\nfrom platform.delta import A\nfrom platform.contract import View\n",
        ),
        (JOB, "from ..tables import A\n", "from platform.delta import A\n"),
        (JOB, "from . import other\n", "from platform.jobs import other\n"),
        (OUTSIDE, "from shop.tables import A\r\nx = 1\r\n", "from platform.delta import A\r\nx = 1\r\n"),
        (OUTSIDE, "from shop.usecase import mine\n", "from shop import mine\n"),
        (OUTSIDE, "import shop.tables as t\n", "import platform.delta as t\n"),
        (OUTSIDE, "import shop.tables\nshop.tables.A\n", "import platform.delta\nplatform.delta.A\n"),
        (
            OUTSIDE,
            "import shop.tables\nmy.shop.tables.A\nshop.tables_of_mine\n",
            "import platform.delta\nmy.shop.tables.A\nshop.tables_of_mine\n",
        ),
        (OUTSIDE, "from shop.tables_of_mine import A\n", "from shop.tables_of_mine import A\n"),
        (OUTSIDE, "from shop.tables import Viewer\n", "from platform.delta import Viewer\n"),
        (OUTSIDE, "from pandas import DataFrame\n", "from pandas import DataFrame\n"),
        (OUTSIDE, "from shop.tables import A; B = A\n", "from shop.tables import A; B = A\n"),
        (OUTSIDE, "this is not Python\n", "this is not Python\n"),
    ],
)
def test_imports_follow_what_moved(path: str, before: str, after: str) -> None:
    assert rewrite(before, path, MOVES.targets.get(path, path), MOVES.renamed) == after


def test_imports_that_find_nothing_are_named() -> None:
    texts = {"src/shop/tables.py": "A = 1\n", "src/shop/__init__.py": ""}
    source = "from shop.tables import A, B\nimport shop.gone\nfrom shop import tables\nimport pandas\n"
    assert list(lost(source, OUTSIDE, texts.get, lambda name: name.startswith("shop"))) == [
        "line 1: shop.tables has no B",
        "line 2: there is no module shop.gone",
    ]


def test_a_name_in_a_file_with_conflict_marks_counts_as_there() -> None:
    texts = {"src/shop/tables.py": "<<<<<<< yours\nB = 1\n=======\n>>>>>>> other\n"}
    assert list(lost("from shop.tables import B\n", OUTSIDE, texts.get, lambda name: True)) == []
