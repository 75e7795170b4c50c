"""Contracts: every row ends in Silver or, with its reason, in quarantine; what is broken as a whole stops the run."""

from datetime import datetime, timedelta

import pandera.polars as pandera
import polars as pl
import pyarrow as pa
import pytest

from mlplatform.contract import SilverTable
from mlplatform.engine.duckdb import DuckDb
from mlplatform.errors import ContractError
from mlplatform.preparation.silver import REASON
from mlplatform.preparation.silver import judge as judge_rows

TIME = datetime(2013, 4, 1)
CONTRACT = pandera.DataFrameSchema(
    {
        "item": pandera.Column(str, pandera.Check.str_matches("^[A-Z]{2}[0-9]+$")),
        "amount": pandera.Column(float, pandera.Check.in_range(-120, 2000), nullable=True),
        "available_at": pandera.Column(pl.Datetime("us")),
        "source_file": pandera.Column(str),
        "source_row": pandera.Column(pl.Int64),
    },
    strict=True,
)
ITEMS = SilverTable("items", "items", keys=("item",), contract=CONTRACT)
SCHEMA = pa.schema(
    {
        "item": pa.string(),
        "amount": pa.float64(),
        "available_at": pa.timestamp("us"),
        "source_file": pa.string(),
        "source_row": pa.int64(),
    }
)


def rows(*facts: tuple[str | None, float | None] | tuple[str | None, float | None, int]) -> pa.Table:
    """Facts (item, amount, hour of availability), on the lines of one file."""
    return pa.Table.from_pylist(
        [
            {
                "item": fact[0],
                "amount": fact[1],
                "available_at": TIME + timedelta(hours=fact[2] if len(fact) == 3 else 0),
                "source_file": "items/a.csv",
                "source_row": number,
            }
            for number, fact in enumerate(facts, start=2)
        ],
        SCHEMA,
    )


def judge(given: pa.Table, known: pa.Table | None = None) -> pa.Table:
    """The verdict on each row, where the table holds `known`."""
    engine = DuckDb({"silver.items": known}.get)
    typed = engine.query("SELECT * FROM given.rows", given={"given.rows": given})
    return judge_rows(engine, ITEMS, typed, known is not None).arrow()


def good(judged: pa.Table) -> list[int]:
    return sorted(row["source_row"] for row in judged.to_pylist() if row[REASON] is None)


def refused(judged: pa.Table) -> dict[int, str]:
    return {row["source_row"]: row[REASON] for row in judged.to_pylist() if row[REASON] is not None}


def test_rows_that_keep_the_contract_pass_unchanged() -> None:
    given = rows(("AA1", 5.0), ("AA2", None))
    judged = judge(given)
    assert judged.drop_columns([REASON]).sort_by("source_row").equals(given)
    assert refused(judged) == {}


def test_a_row_that_breaks_the_contract_is_refused_with_column_and_reason() -> None:
    judged = judge(rows(("AA1", 5.0), ("AA2", 9999.0), ("??", 1.0)))
    assert good(judged) == [2]
    assert refused(judged) == {3: "amount: in_range(-120, 2000)", 4: "item: str_matches('^[A-Z]{2}[0-9]+$')"}


def test_a_row_that_breaks_two_rules_is_refused_once_with_both_reasons() -> None:
    judged = judge(rows(("??", 9999.0)))
    (reason,) = refused(judged).values()
    assert reason == "amount: in_range(-120, 2000); item: str_matches('^[A-Z]{2}[0-9]+$')"


def test_a_missing_value_is_refused_where_none_may_be_missing() -> None:
    judged = judge(rows((None, 1.0), ("AA1", None)))
    assert good(judged) == [3]
    assert refused(judged) == {2: "item: not_nullable"}


def test_a_value_that_is_not_a_number_is_no_number() -> None:
    assert list(refused(judge(rows(("AA1", float("nan")))))) == [2]


def test_a_time_beyond_those_that_python_has_is_refused() -> None:
    """9999-12-31T23:59:59-05:00 is one in UTC, and the first pipeline that met it would end in an overflow."""
    given, micros = (
        rows(("AA1", 1.0), ("AA2", 1.0), ("??", 1.0), ("AA4", 1.0)),
        [0, 253402318799000000, -(10**17), None],
    )
    times = pa.array(micros, pa.int64()).cast(pa.timestamp("us"))
    given = given.set_column(2, SCHEMA.field("available_at"), times)
    judged = judge(given).select(["source_row", REASON])
    beyond = "available_at: not in the years 1 to 9999"
    assert refused(judged) == {3: beyond, 4: beyond, 5: "available_at: not_nullable"}


def test_of_facts_with_the_same_key_the_first_available_is_kept() -> None:
    judged = judge(rows(("AA1", 1.0, 5), ("AA1", 2.0, 3), ("AA1", 3.0, 4)))
    assert good(judged) == [3]
    assert refused(judged) == {2: "duplicate item", 4: "duplicate item"}


def test_facts_that_became_available_together_are_kept_in_the_order_of_the_file() -> None:
    assert good(judge(rows(("AA1", 1.0), ("AA1", 2.0)))) == [2]


def test_a_fact_that_the_table_has_already_is_refused_as_known() -> None:
    judged = judge(rows(("AA1", 1.0), ("AA2", 2.0)), known=pa.table({"item": ["AA1"]}))
    assert good(judged) == [3]
    assert refused(judged) == {2: "already known: item"}


def test_a_bad_row_does_not_take_the_place_of_a_good_one_with_the_same_key() -> None:
    judged = judge(rows(("AA1", 9999.0, 1), ("AA1", 2.0, 2)))
    assert good(judged) == [3]
    assert refused(judged) == {2: "amount: in_range(-120, 2000)"}


def test_rows_in_are_rows_good_and_rows_refused() -> None:
    given = rows(*[(f"AA{n % 300}", 9999.0 if n % 11 == 0 else float(n % 90), n % 5) for n in range(1000)])
    judged = judge(given, known=pa.table({"item": ["AA7", "AA8"]}))
    assert sorted([*good(judged), *refused(judged)]) == given["source_row"].to_pylist()
    assert judged.num_rows == given.num_rows
    kept = [row["item"] for row in judged.to_pylist() if row[REASON] is None]
    assert len(set(kept)) == len(kept)
    assert {"AA7", "AA8"}.isdisjoint(kept)


def test_sql_that_gives_another_type_stops_the_pipeline() -> None:
    given = rows(("AA1", 5.0))
    index = given.schema.get_field_index("amount")
    wrong = given.set_column(index, "amount", pa.array(["5.0"]))
    with pytest.raises(ContractError, match=r"sql/silver/items\.sql does not give what its contract describes: amount"):
        judge(wrong)


def test_sql_that_leaves_a_column_out_stops_the_pipeline() -> None:
    with pytest.raises(ContractError, match=r"sql/silver/items\.sql does not give what its contract describes"):
        judge(rows(("AA1", 5.0)).drop_columns(["amount"]))


def test_sql_that_adds_a_column_stops_the_pipeline() -> None:
    more = rows(("AA1", 5.0)).append_column("gate", pa.array(["B4"]))
    with pytest.raises(ContractError, match=r"sql/silver/items\.sql does not give what its contract describes"):
        judge(more)
