"""The folders of sql/bigquery are complete and keep the contract; a slip in one is told with its file."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from beam_jobs import contract
from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.day import build_statement
from shopstream.tables.folder import Column, Table, TableError
from shopstream.tables.names import LOADS

SQL_DIR = settings().sql_dir
TABLES = tables.all_tables(SQL_DIR)
BUILT = [table for table in TABLES if table.query]
SUMMARIES = [table for table in BUILT if table.dataset == "shop"]
CONTRACT_TYPES = {
    "timestamp": "TIMESTAMP",
    "event_type": "STRING",
    "int64": "INT64",
    "numeric": "NUMERIC",
    "string": "STRING",
}


def name(table: Table) -> str:
    return table.full_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of shop.daily_event_count in a copy of sql/bigquery."""
    shutil.copytree(SQL_DIR / "bigquery", tmp_path / "bigquery")
    return tmp_path / "bigquery" / "shop" / "daily_event_count"


def load(folder: Path) -> Table:
    return tables.load_table(folder.parents[2], f"{folder.parent.name}.{folder.name}")


def change_metadata(folder: Path, **changes: object) -> None:
    path = folder / "metadata.yaml"
    entry = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in entry.items() if value != "remove"}))


# What is in sql/bigquery


def test_every_folder_under_a_dataset_is_a_table() -> None:
    folders = {f"{path.parent.name}.{path.name}" for path in (SQL_DIR / "bigquery").glob("*/*")}
    assert folders == {table.full_name for table in TABLES}
    assert {
        "shop_raw.events_batch",
        "shop_raw.events_stream",
        "shop_raw.rejected_events_batch",
        "shop_raw.rejected_events_stream",
        "shop.rejected_events",
        "shop.events",
        "shop_ops.loads",
    } <= folders


def test_the_summaries_that_the_dags_know_are_the_folders_of_shop_with_a_query_in_dependency_order() -> None:
    assert tables.summaries_in_order(SQL_DIR) == [table.full_name for table in SUMMARIES]


def test_the_dags_build_what_summaries_read_before_them() -> None:
    daily = [table for table in BUILT if table.dataset in ("shop_raw", "shop")]
    names = {table.full_name for table in daily}
    assert names - {table.full_name for table in SUMMARIES} == {
        "shop_raw.carts_and_purchases",
        "shop_raw.events_deduplicated",
        "shop_raw.product_views",
    }
    known = {name: set(reads) for name, reads in tables.built_in_order(SQL_DIR).items()}
    assert known == {table.full_name: set(table.metadata.reads) & names for table in daily}
    assert known["shop.customer_value"] == {"shop.customer_purchases"}
    assert next(iter(known)) == "shop_raw.events_deduplicated"


def test_no_summary_tells_events_apart_again() -> None:
    apart = {"shop.events", "shop_raw.events_batch", "shop_raw.events_stream"}
    for table in SUMMARIES:
        assert not apart & set(table.metadata.reads), table.full_name
        assert not any(f"FROM {name}\n" in check.sql for check in table.checks for name in apart)


def test_every_query_has_checks_but_those_that_are_checks_themselves() -> None:
    """shop_ops.stream_completeness holds the stream against the loads, and shop_ops.objectives all of them
    against what is promised.
    """
    unchecked = {table.full_name for table in BUILT if not table.checks}
    assert unchecked == {"shop_ops.stream_completeness", "shop_ops.objectives"}


@pytest.mark.parametrize("table", SUMMARIES, ids=name)
def test_a_summary_has_checks_of_both_levels_and_of_its_grain(table: Table) -> None:
    assert {check.severity for check in table.checks} == {"fail", "warn"}
    assert table.checks[0].name == "unique_grain"
    assert table.metadata.grain
    assert table.metadata.partition_by == "event_date"


@pytest.mark.parametrize("table", BUILT, ids=name)
def test_a_check_that_warns_says_in_a_sentence_what_its_rows_mean(table: Table) -> None:
    for check in table.checks:
        if check.severity == "warn":
            assert re.fullmatch(r"[A-Z].{15,}\.", check.meaning), check.name


@pytest.mark.parametrize("table", TABLES, ids=name)
def test_every_table_is_partitioned_owned_and_described(table: Table) -> None:
    assert table.metadata.owner
    assert table.metadata.description
    assert table.view or table.metadata.partition_by


@pytest.mark.parametrize("table", TABLES, ids=name)
def test_no_statement_selects_all_columns(table: Table) -> None:
    assert not any(selects_all_columns(sql) for sql in statements(table))


@pytest.mark.parametrize(
    ("sql", "is_found"),
    [
        ("SELECT * FROM t", True),
        ("SELECT DISTINCT * FROM t", True),
        ("SELECT t.* FROM t", True),
        ("SELECT a, * FROM t", True),
        ("SELECT a, b.* EXCEPT (c) FROM t AS b", True),
        ("SELECT COUNT(*), a * b, a FROM t WHERE c * 2 > 1", False),
        ("SELECT a -- all of it, *\nFROM t", False),
    ],
)
def test_the_search_for_all_columns_finds_them_wherever_they_stand(sql: str, is_found: bool) -> None:
    assert selects_all_columns(sql) is is_found


@pytest.mark.parametrize("table", BUILT, ids=name)
def test_every_read_of_a_table_in_a_query_or_check_is_filtered_by_its_partition(table: Table) -> None:
    for sql in [table.query or "", *(check.sql for check in table.checks)]:
        assert unfiltered_reads(sql) == []


def test_the_filter_test_finds_a_read_without_a_filter() -> None:
    assert unfiltered_reads("SELECT a FROM shop.events WHERE event_type = 'view'") == ["shop.events"]
    assert unfiltered_reads("SELECT (SELECT a FROM shop.events) FROM shop.x WHERE event_date = @day") == [
        "shop.events"
    ]
    joined = "SELECT a FROM shop.x AS x JOIN shop.events AS e ON {} WHERE x.event_date = @day{}"
    assert unfiltered_reads(joined.format("x.a = e.a", "")) == ["shop.events"]
    assert unfiltered_reads(joined.format("x.a = e.a AND e.event_date = @day", "")) == []
    assert unfiltered_reads(joined.format("x.a = e.a", " AND e.event_date BETWEEN @day AND @day")) == []
    assert unfiltered_reads("SELECT a FROM t LEFT JOIN shop.events ON t.a = events.a") == ["shop.events"]


@pytest.mark.parametrize("table", [table for table in TABLES if table.query or table.view], ids=name)
def test_metadata_names_exactly_the_tables_that_the_query_reads(table: Table) -> None:
    sql = table.query or table.view or ""
    assert set(re.findall(r"(?:FROM|JOIN)\s+(\w+\.\w+)", sql)) == set(table.metadata.reads)


def test_the_view_keeps_the_event_date_in_its_window_so_that_a_filter_reaches_the_partitions() -> None:
    view = tables.load_table(SQL_DIR, "shop.events")
    windows = re.findall(r"PARTITION BY ([^)]*?) ORDER BY", view.view or "")
    assert windows == ["event_date, event_id"]
    assert set(re.findall(r"FROM\s+(\w+\.\w+)", view.view or "")) == set(view.metadata.reads)


@pytest.mark.parametrize("full_name", ["shop_raw.events_batch", "shop_raw.events_stream", "shop.events"])
def test_the_event_tables_have_the_columns_of_the_contract_and_those_derived_from_them(
    full_name: str,
) -> None:
    table = tables.load_table(SQL_DIR, full_name)
    columns = {column.name: column for column in table.schema}
    expected = {
        column.name: (CONTRACT_TYPES[column.kind], "REQUIRED" if column.required else "NULLABLE")
        for column in contract.COLUMNS
    }
    expected |= {"event_id": ("STRING", "REQUIRED"), "event_date": ("DATE", "REQUIRED")}
    for level in range(1, contract.CATEGORY_LEVELS + 1):
        expected[f"category_level_{level}"] = ("STRING", "NULLABLE")
    if table.view:
        expected = {column: (type_name, "NULLABLE") for column, (type_name, _) in expected.items()}
    assert {key: (columns[key].type, columns[key].mode) for key in expected} == expected


def test_the_batch_and_the_stream_describe_their_common_columns_alike() -> None:
    batch = tables.load_table(SQL_DIR, "shop_raw.events_batch").schema
    stream = tables.load_table(SQL_DIR, "shop_raw.events_stream").schema
    common = [column for column in batch if column.name not in ("landing_day", "load_id")]
    assert list(stream[: len(common)]) == common


def inexact_money(schema: Iterable[Column]) -> list[str]:
    """The columns that hold money, by their names, and are no exact decimals."""
    is_money = re.compile(r"(price|revenue)(?!_change)(_|$)|_value$|^value_")
    return [
        column.name
        for column in schema
        if is_money.search(column.name) and column.type not in ("NUMERIC", "BIGNUMERIC")
    ]


@pytest.mark.parametrize("table", TABLES, ids=name)
def test_money_is_kept_exactly(table: Table) -> None:
    """By the type of its schema a summary is held against the reference: exactly, or within a tolerance."""
    assert inexact_money(table.schema) == []


def test_the_search_for_inexact_money_finds_it_by_name_and_leaves_what_is_relative() -> None:
    names = ("revenue", "average_price_paid", "cart_value", "revenue_week_before", "revenue_change", "value")
    columns = [Column(name, "FLOAT64", "REQUIRED", "") for name in names]
    assert inexact_money(columns) == list(names[:4])


def statements(table: Table) -> list[str]:
    return [sql for sql in (table.query, table.view, *(check.sql for check in table.checks)) if sql]


def selects_all_columns(sql: str) -> bool:
    """Tell whether a list of columns holds a star. In a product it comes after what it multiplies."""
    return bool(re.search(r"(\bSELECT|\bDISTINCT|,)\s*(\w+\.)?\*", re.sub(r"--[^\n]*", "", sql)))


def unfiltered_reads(sql: str) -> list[str]:
    """Return the tables, named dataset.table, of which no WHERE or ON of their SELECT compares the partition.

    Where tables are joined, the comparison must name the table. What the comparison comes to is judged by
    `python -m tools.googlesql`.
    """
    found = []
    for read in re.finditer(r"(?:FROM|JOIN)\s+(\w+\.(\w+))(?:\s+AS\s+(\w+))?", sql):
        depth, end = 0, len(sql)
        for position in range(read.end(), len(sql)):
            depth += {"(": 1, ")": -1}.get(sql[position], 0)
            if depth < 0:
                end = position
                break
        own = re.split(r"\bGROUP BY\b|\bHAVING\b", sql[read.end() : end])[0]
        is_joined = read[0].startswith("JOIN") or re.search(r"\bJOIN\s+(?!UNNEST)", own)
        partition = "landing_day" if read[1] == LOADS else "event_date"
        column = rf"{read[3] or read[2]}\.{partition}" if is_joined else rf"\b{partition}"
        if not re.search(rf"\b(WHERE|ON)\b.*{column}\b\s*(=|BETWEEN|IN)", own, re.DOTALL):
            found.append(read[1])
    return found


# How folders are read


def test_a_table_is_read_whole(folder: Path) -> None:
    table = load(folder)
    assert table.column_names == ("event_date", "event_type", "events", "users", "sessions")
    assert table.schema[0].mode == "REQUIRED"
    assert table.metadata.reads == ("shop_raw.events_deduplicated",)
    assert table.metadata.lookback_days == 0
    assert table.checks[0].name == "unique_grain"
    assert table.checks[0].sql.startswith("SELECT")
    assert table.checks[0].meaning == ""
    assert not any(";" in check.sql.splitlines()[-1] for check in table.checks)


def test_the_merge_replaces_the_rows_of_the_day_and_names_every_column() -> None:
    table = tables.load_table(SQL_DIR, "shop.daily_event_count")
    assert build_statement(table) == (
        f"MERGE shop.daily_event_count AS target\nUSING (\n{table.query}\n) AS built\nON FALSE\n"
        "WHEN NOT MATCHED BY SOURCE AND target.event_date = @day THEN DELETE\n"
        "WHEN NOT MATCHED BY TARGET THEN INSERT (event_date, event_type, events, users, sessions) "
        "VALUES (event_date, event_type, events, users, sessions)"
    )


def test_a_table_without_a_query_has_no_merge() -> None:
    with pytest.raises(TableError, match=r"shop_ops\.loads: has no query\.sql"):
        build_statement(tables.load_table(SQL_DIR, "shop_ops.loads"))


@pytest.mark.parametrize("full_name", ["shop.nothing", "shop", "nothing.daily_event_count"])
def test_an_unknown_table_is_told(full_name: str) -> None:
    with pytest.raises(TableError, match=f"there is no table '{full_name}'"):
        tables.load_table(SQL_DIR, full_name)


@pytest.mark.parametrize("file", ["schema.yaml", "metadata.yaml"])
def test_a_missing_file_is_told(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(TableError, match=f"{file}: is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("- {name: a, type: MONEY, mode: REQUIRED, description: x}", "type is 'MONEY'"),
        ("- {name: a, type: INT64, mode: MAYBE, description: x}", "mode is 'MAYBE'"),
        ("- {name: a, type: INT64, mode: REQUIRED, description: ''}", "description is empty"),
        ("- {name: a, type: INT64, mode: REQUIRED}", "exactly name, type, mode and description"),
        ("- {name: A b, type: INT64, mode: REQUIRED, description: x}", "lower case letters"),
        ("- {name: event_date, type: DATE, mode: REQUIRED, description: x}", "repeats event_date"),
        ("columns: []", "is not YAML"),
    ],
)
def test_a_slip_in_schema_yaml_is_told_with_its_file(folder: Path, entry: str, problem: str) -> None:
    path = folder / "schema.yaml"
    path.write_text(f"{path.read_text()}{entry}\n")
    with pytest.raises(TableError, match=problem) as told:
        load(folder)
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"owner": "remove"}, "lacks owner"),
        ({"owner": " "}, "owner is ' '"),
        ({"colour": "red"}, "has unknown colour"),
        ({"partition_by": "day"}, "partition_by is 'day'"),
        ({"partition_by": "event_type"}, "partition_by is 'event_type', which is no DATE column"),
        ({"grain": ["event_date", "event_typ"]}, "grain names 'event_typ'"),
        ({"cluster_by": ["event_date", "event_type", "events", "users", "sessions"]}, "at most 4"),
        ({"reads": "shop.events"}, "give a list"),
        ({"reads": [1]}, "reads is \\[1\\]; give a list of tables"),
        ({"lookahead_days": -1}, "lookahead_days and fills_days must be 0 or more"),
        ({"lookahead_days": "1"}, "lookahead_days is '1'; give a int"),
        ({"parameters": {"day": "DATE"}}, "parameters has 'day'; give a name .* other than day"),
        ({"parameters": {"a b": "DATE"}}, "parameters has 'a b'"),
        ({"parameters": {"share": "FLOAT"}}, "parameter share is of type 'FLOAT'; give one of BOOL"),
        ({"headline": {"by": "events"}}, "headline: lacks text"),
        ({"headline": {"text": "x", "colour": "red"}}, "headline: has unknown colour"),
        ({"headline": {"text": "x", "first": "2"}}, "headline: first is '2'; give a int"),
        ({"headline": {"text": "{events"}}, "headline: text is '{events': expected '}'"),
        ({"headline": {"text": "{evnts}"}}, "headline adds 'evnts' up, which is no column"),
        ({"headline": {"text": "{event_type}"}}, "headline adds 'event_type' up, which is no column"),
        ({"headline": {"text": "x", "by": "evnts"}}, "headline names 'evnts'"),
        ({"headline": {"text": "x", "where": {"evnts": 1}}}, "headline names 'evnts'"),
        ({"headline": {"text": "{share:.0%}"}}, "tells a share; say by most"),
    ],
)
def test_a_slip_in_metadata_yaml_is_told_with_its_file(
    folder: Path, changes: dict[str, object], problem: str
) -> None:
    change_metadata(folder, **changes)
    with pytest.raises(TableError, match=problem) as told:
        load(folder)
    assert str(folder / "metadata.yaml") in str(told.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT 1;", "must start with a header"),
        ("-- check: a, severity: loud\nSELECT 1;", "its severity is one of fail, warn"),
        ("-- check: A b, severity: fail\nSELECT 1;", "is no header"),
        (
            "-- check: a, severity: fail\nSELECT 1;\n-- check: a, severity: warn\nSELECT 2;",
            "two checks are named a",
        ),
        (
            "-- check: unique_grain, severity: warn\nSELECT 1;",
            "unique_grain is made from metadata.yaml's grain",
        ),
        ("-- check: a, severity: fail\nSELECT 1; SELECT 2;", "must be one SELECT"),
        ("-- check: a, severity: fail\nDELETE FROM shop.x WHERE TRUE;", "must be one SELECT"),
    ],
)
def test_a_slip_in_checks_sql_is_told_with_its_file(folder: Path, text: str, problem: str) -> None:
    (folder / "checks.sql").write_text(text)
    with pytest.raises(TableError, match=problem) as told:
        load(folder)
    assert str(folder / "checks.sql") in str(told.value)


@pytest.mark.parametrize(
    ("query", "parameters", "problem"),
    [
        ("SELECT 1 AS events", {}, "does not use @day"),
        ("SELECT 1 AS events -- of @day", {}, "does not use @day"),
        (
            "SELECT @day = @d",
            {},
            r"uses @d; declare it in metadata\.yaml, such as `parameters: {d: FLOAT64}`",
        ),
        ("SELECT @day, '@d'", {"d": "DATE"}, r"does not use @d, which metadata\.yaml declares"),
    ],
)
def test_a_query_that_takes_other_parameters_than_declared_is_told(
    folder: Path, query: str, parameters: dict[str, str], problem: str
) -> None:
    change_metadata(folder, parameters=parameters)
    (folder / "query.sql").write_text(query)
    with pytest.raises(TableError, match=rf"query\.sql: {problem}"):
        load(folder)


def test_the_grain_is_checked_first_by_the_columns_beside_the_day(folder: Path) -> None:
    change_metadata(folder, grain=["event_date", "event_type", "users"])
    assert load(folder).checks[0] == tables.Check(
        "unique_grain",
        "fail",
        "SELECT\n    event_type,\n    users,\n    COUNT(*) AS found_rows\nFROM shop.daily_event_count\n"
        "WHERE event_date = @day\nGROUP BY event_type, users\nHAVING COUNT(*) > 1",
    )
    change_metadata(folder, grain=["event_date"])
    assert "GROUP BY event_date\n" in load(folder).checks[0].sql
    change_metadata(folder, grain=[])
    assert "unique_grain" not in [check.name for check in load(folder).checks]


def test_a_folder_cannot_be_a_summary_and_a_view(folder: Path) -> None:
    (folder / "view.sql").write_text("SELECT 1 AS events")
    with pytest.raises(TableError, match=r"has query\.sql and view\.sql"):
        load(folder)


# In which order


def test_a_table_comes_after_all_that_it_reads(folder: Path) -> None:
    change_metadata(folder, reads=["shop.events", "shop.purchase_conversion_volume"])
    order = [table.full_name for table in tables.all_tables(folder.parents[2])]
    for table in tables.all_tables(folder.parents[2]):
        assert all(order.index(read) < order.index(table.full_name) for read in table.metadata.reads)
    assert order.index("shop.purchase_conversion_volume") < order.index("shop.daily_event_count")


def test_a_read_of_an_unknown_table_is_told(folder: Path) -> None:
    change_metadata(folder, reads=["shop.evnets"])
    with pytest.raises(TableError, match=r"shop\.daily_event_count: reads shop\.evnets, which has no folder"):
        tables.all_tables(folder.parents[2])


def test_tables_that_read_each_other_in_a_circle_are_told(folder: Path) -> None:
    change_metadata(folder, reads=["shop.daily_event_count"])
    with pytest.raises(TableError, match=r"in a circle: shop\.daily_event_count"):
        tables.all_tables(folder.parents[2])


def test_a_summary_that_reads_another_by_a_view_comes_after_that_one(folder: Path) -> None:
    sql_dir = folder.parents[2]
    assert tables.built_in_order(sql_dir)["shop.brand_performance"] == ["shop_raw.events_deduplicated"]
    change_metadata(folder.parent / "brand_performance", reads=["shop.events", "shop.days"])
    order = tables.built_in_order(sql_dir)
    assert order["shop.brand_performance"] == ["shop.daily_event_count"]
    assert list(order).index("shop.daily_event_count") < list(order).index("shop.brand_performance")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("reads: [", r"metadata\.yaml: is not YAML"),
        ("owner: me", r"metadata\.yaml: reads is None; give a list of tables"),
        ("reads: [shop.evnets]", r"shop\.daily_event_count: reads shop\.evnets, which has no folder"),
        ("reads: [shop.daily_event_count]", r"in a circle: shop\.daily_event_count"),
    ],
)
def test_the_order_of_the_summaries_is_refused_for_a_folder_that_is_wrong(
    folder: Path, text: str, problem: str
) -> None:
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(TableError, match=problem):
        tables.summaries_in_order(folder.parents[2])


def test_a_place_without_tables_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        TableError, match="has no folders of tables; name the folder above it by SHOPSTREAM_SQL_DIR"
    ):
        tables.summaries_in_order(tmp_path)
