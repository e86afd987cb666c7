"""Google's analyzer refuses what BigQuery would refuse, and knows which partitions a statement reads."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.root import ROOT
from shopstream.settings import settings
from shopstream.tables import folder as tables
from tools.googlesql import __main__ as googlesql
from tools.googlesql import analyzer as analyzers
from tools.googlesql.analyzer import Analyzer, StatementRefused, running_analyzer
from tools.googlesql.reads import Read, reads_of
from tools.googlesql.statements import statements_of

pytestmark = pytest.mark.integration

SQL_DIR = settings().sql_dir
TABLES = {table.full_name: table for table in tables.all_tables(SQL_DIR)}


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analyzer]:
    with running_analyzer(TABLES.values(), tmp_path_factory.mktemp("googlesql") / "log") as running:
        yield running


@pytest.fixture
def sql_dir(tmp_path: Path) -> Path:
    """A copy of sql, to be broken."""
    return Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# The judgement of all statements


def test_every_statement_of_the_project_is_judged_and_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert googlesql.main([]) == 0

    lines = capsys.readouterr().out.splitlines()
    statements = [statement for table in TABLES.values() for statement in statements_of(SQL_DIR, table)]
    assert len(lines) == len(statements) + 1
    assert re.fullmatch(rf"{len(statements)} statements judged by GoogleSQL in [\d.]+ s, 0 wrong", lines[-1])
    assert (
        "shop.daily_event_count, check like_the_days_before: reads @day-7 to @day of shop.daily_event_count"
        in lines
    )
    assert "shop.daily_event_count, check unique_grain: reads @day of shop.daily_event_count" in lines


def test_the_check_of_the_grain_stands_where_the_grain_does() -> None:
    [check] = [
        statement
        for statement in statements_of(SQL_DIR, TABLES["shop.daily_event_count"])
        if statement.name == "check unique_grain"
    ]
    assert check.path.name == "metadata.yaml"
    assert check.path.read_text().splitlines()[check.first_line - 1].startswith("grain: ")


BROKEN = [
    ("query.sql", "COUNT(DISTINCT user_id)", "COUNT(DISTINCT usr_id)", "sql:5:20: Unrecognized name: usr_id"),
    ("query.sql", "COUNT(DISTINCT user_id)", "SUM(session_key)", "sql:5:5: No matching signature for"),
    ("query.sql", "shop_raw.events_deduplicated", "shop.event", "sql:7:6: Table not found: shop.event"),
    (
        "query.sql",
        "COUNT(*) AS events",
        "COUNT(*) / 2 AS events",
        "sql:1: column 3 is events FLOAT64; schema",
    ),
    (
        "query.sql",
        "COUNT(*) AS events",
        "COUNT(*) AS event",
        "sql:1: column 3 is event INT64; schema.yaml has",
    ),
    ("query.sql", "    COUNT(*) AS events,\n", "", "sql:1: gives 4 columns"),
    ("query.sql", "= @day", "BETWEEN @day - 1 AND @day", "sql:1: reads all days of shop_raw.events_d"),
    (
        "query.sql",
        "= @day",
        ">= DATE_SUB(@day, INTERVAL 1 DAY)",
        "reads @day-1 to the last day of shop_raw.ev",
    ),
    ("metadata.yaml", "lookback_days: 0", "lookback_days: 1", "looks back 0 days; metadata.yaml says"),
    (
        "query.sql",
        "= @day",
        "IN (@day, DATE_ADD(@day, INTERVAL 1 DAY))",
        "looks ahead 1 days; metadata.yaml says lookahead_days: 0",
    ),
    (
        "checks.sql",
        "event_date = @day",
        "event_date = DATE_ADD(@day, INTERVAL 1 DAY)",
        "reads @day+1 of shop.daily_event_count, days after its own",
    ),
    ("checks.sql", "    event_date = @day", "    @day = @d", "sql:7:12: Query parameter 'd' not found"),
    ("checks.sql", "    event_date = @day", "    events = @day", "sql:7:5: No matching signature for"),
    ("checks.sql", "users < 1 OR", "users < '' OR", "sql:21:24: No matching signature for"),
]


@pytest.mark.parametrize(("file", "old", "new", "found"), BROKEN, ids=[found for *_, found in BROKEN])
def test_a_wrong_statement_is_told_with_its_place(
    analyzer: Analyzer, sql_dir: Path, file: str, old: str, new: str, found: str
) -> None:
    path = sql_dir / "bigquery" / "shop" / "daily_event_count" / file
    replace_in(path, old, new)
    table = tables.load_table(sql_dir, "shop.daily_event_count")
    verdicts = [
        googlesql.verdict_on(analyzer, TABLES, statement) for statement in statements_of(sql_dir, table)
    ]
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    assert found in problems[0]
    assert problems[0].startswith(str(path.parent))


def test_one_wrong_statement_fails_the_command(sql_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = sql_dir / "bigquery" / "shop" / "daily_event_count" / "query.sql"
    replace_in(query, "COUNT(DISTINCT user_id)", "COUNT(DISTINCT usr_id)")

    assert googlesql.main(["--sql-dir", str(sql_dir)]) == 1
    assert (
        f"shop.daily_event_count, query.sql: WRONG: {query}:5:20: Unrecognized name: usr_id"
        in capsys.readouterr().out
    )


def test_a_view_that_hides_the_event_date_from_filters_is_wrong_and_so_is_what_reads_it(
    sql_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = sql_dir / "bigquery" / "shop" / "events" / "view.sql"
    replace_in(view, "PARTITION BY event_date, event_id", "PARTITION BY event_id")

    assert googlesql.main(["--sql-dir", str(sql_dir)]) == 1

    wrong = [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert any(line.startswith("shop.events, view.sql: WRONG") for line in wrong)
    assert any(line.startswith("shop_raw.events_deduplicated, query.sql: WRONG") for line in wrong)


def test_a_view_whose_columns_are_not_those_of_its_schema_is_wrong(
    sql_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sql_dir / "bigquery" / "shop" / "events" / "schema.yaml"
    columns = yaml.safe_load(path.read_text())
    columns[0]["type"] = "BYTES"
    path.write_text(yaml.safe_dump(columns))

    assert googlesql.main(["--sql-dir", str(sql_dir)]) == 1
    assert "column 1 is event_id STRING; schema.yaml has event_id BYTES" in capsys.readouterr().out


def test_a_missing_analyzer_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(analyzers, "PACKAGE", ROOT / "nowhere")
    assert googlesql.main([]) == 1
    assert capsys.readouterr().err == "The GoogleSQL analyzer is missing: run `make install`.\n"


# What BigQuery has and has not


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT [1] = [2]",
        "SELECT ARRAY_SUM([1])",
        "SELECT CAST(1 AS INT32)",
        "SELECT ROW_NUMBER() OVER (PARTITION BY share_of_events) FROM shop.purchase_conversion_rate",
        "SELECT events FROM shop.daily_event_count GROUP BY event_type",
        "SELECT price * 0.5 + 'a' FROM shop.events",
    ],
)
def test_what_bigquery_does_not_have_is_refused(analyzer: Analyzer, sql: str) -> None:
    with pytest.raises(StatementRefused):
        analyzer.analyze(sql, {})


@pytest.mark.parametrize(
    ("expression", "params", "expected"),
    [
        ("price / 2", {}, "NUMERIC"),
        ("SUM(events) / 2", {}, "FLOAT64"),
        ("ARRAY_AGG(DISTINCT event_date)", {}, "ARRAY<DATE>"),
        ("@days[SAFE_OFFSET(0)]", {"days": "ARRAY<DATE>"}, "DATE"),
        ("FROM_BASE64('')", {}, "BYTES"),
        ("STRUCT(1 AS a, CURRENT_TIMESTAMP() AS b)", {}, "STRUCT<a INT64, b TIMESTAMP>"),
        ("PARSE_JSON('1')", {}, "JSON"),
    ],
)
def test_expressions_have_the_types_of_bigquery(
    analyzer: Analyzer, expression: str, params: dict[str, str], expected: str
) -> None:
    table = "(SELECT DATE '2019-11-01' AS event_date, NUMERIC '1' AS price, 1 AS events)"
    column = analyzer.analyze(f"SELECT {expression} FROM {table}", params).output_column_list[0]
    assert analyzers.type_name(column.column.type) == expected


# Which partitions a statement reads

COUNTS = "shop.daily_event_count"
# "t" stands for the table of which the days are told.
READS = [
    ("SELECT users FROM t", "all days"),
    ("SELECT users FROM t WHERE @day = event_date AND users > 1", "@day"),
    ("SELECT users FROM t WHERE event_date > DATE_SUB(@day, INTERVAL 7 DAY)", "@day-6 to the last day"),
    ("SELECT users FROM t WHERE @day > event_date", "the first day to @day-1"),
    ("SELECT users FROM t WHERE event_date IN (@day, DATE_SUB(@day, INTERVAL 7 DAY))", "@day-7 to @day"),
    (
        "SELECT users FROM t WHERE event_date = @day OR event_date = DATE_ADD(@day, INTERVAL 1 DAY)",
        "@day to @day+1",
    ),
    ("SELECT users FROM t WHERE event_date = @day OR users = 1", "all days"),
    ("SELECT users FROM t WHERE event_date = @day AND (users = 1 OR users = 2)", "@day"),
    ("SELECT users FROM t WHERE NOT event_date = @day", "all days"),
    ("SELECT users FROM t WHERE DATE_ADD(event_date, INTERVAL 1 DAY) = @day", "all days"),
    ("SELECT users FROM t WHERE event_date = (SELECT @day)", "all days"),
    ("SELECT users FROM t WHERE event_date = CURRENT_DATE()", "today"),
    ("WITH a AS (SELECT event_date AS d, users FROM t) SELECT users FROM a WHERE d = @day", "@day"),
    ("WITH a AS (SELECT event_date AS d FROM t) SELECT x.d FROM a AS x, a AS y WHERE x.d = @day", "all days"),
    ("WITH a AS (SELECT users FROM t) SELECT users FROM t WHERE event_date = @day", "@day"),
    ("SELECT d FROM (SELECT MAX(event_date) AS d FROM t) WHERE d = @day", "all days"),
    ("SELECT d FROM (SELECT event_date AS d FROM t GROUP BY d) WHERE d = @day", "@day"),
    ("SELECT d FROM (SELECT event_date AS d FROM t ORDER BY d LIMIT 9) WHERE d = @day", "all days"),
    ("SELECT users FROM t WHERE event_date = @day QUALIFY ROW_NUMBER() OVER (ORDER BY users) = 1", "@day"),
    (
        "SELECT d FROM (SELECT event_date AS d, RANK() OVER (ORDER BY users) AS n FROM t) WHERE d = @day",
        "all days",
    ),
    ("SELECT (SELECT SUM(users) FROM t WHERE event_date = @day)", "@day"),
    ("SELECT (SELECT SUM(users) FROM t)", "all days"),
    ("SELECT users FROM t WHERE event_date = @day AND users IN (SELECT users FROM t)", "all days"),
    ("SELECT users FROM shop_ops.loads LEFT JOIN t ON event_date = @day", "@day"),
    ("SELECT users FROM t LEFT JOIN shop_ops.loads ON event_date = @day", "all days"),
    (
        "SELECT users FROM t JOIN shop_ops.loads ON event_date = landing_day WHERE landing_day = @day",
        "all days",
    ),
    (
        "SELECT users FROM t WHERE event_date = @day "
        "UNION ALL SELECT users FROM t WHERE event_date = DATE_SUB(@day, INTERVAL 1 DAY)",
        "@day-1 to @day",
    ),
]


@pytest.mark.parametrize(("sql", "expected"), READS)
def test_the_days_that_a_query_reads_follow_from_the_filters_that_reach_the_table(
    analyzer: Analyzer, sql: str, expected: str
) -> None:
    reads = days_read(analyzer, re.sub(r"\bt\b", COUNTS, sql))
    assert reads[COUNTS] == expected


def test_a_filter_reaches_the_tables_below_a_view(analyzer: Analyzer) -> None:
    sql = "SELECT user_id FROM shop.events WHERE event_date = @day AND event_type = 'view'"
    assert days_read(analyzer, sql) == {"shop_raw.events_batch": "@day", "shop_raw.events_stream": "@day"}


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("ON FALSE WHEN NOT MATCHED BY SOURCE AND t.event_date = @day THEN DELETE", "@day"),
        ("ON FALSE WHEN NOT MATCHED BY SOURCE THEN DELETE", "all days"),
        ("ON t.event_date = s.d WHEN MATCHED AND t.event_date = @day THEN DELETE", "all days"),
        (
            "ON t.event_date = @day AND t.event_date = s.d WHEN MATCHED AND t.event_date = @day THEN DELETE",
            "@day",
        ),
    ],
)
def test_a_merge_reads_the_days_of_its_target_in_which_it_looks_for_rows(
    analyzer: Analyzer, clause: str, expected: str
) -> None:
    merge = f"MERGE {COUNTS} AS t USING (SELECT @day AS d) AS s {clause}"
    assert days_read(analyzer, merge)[COUNTS] == expected


COLUMNS = [
    ("SELECT COUNT(*) FROM t", ""),
    ("SELECT COUNT(*) FROM t WHERE event_date = @day", "event_date"),
    ("SELECT SUM(users) FROM t GROUP BY event_type", "event_type users"),
    ("SELECT a FROM (SELECT users AS a, events AS b FROM t)", "users"),
    ("SELECT a FROM (SELECT users AS a, SUM(events) AS b FROM t GROUP BY users)", "users"),
    ("WITH w AS (SELECT users, events, sessions FROM t) SELECT users FROM w ORDER BY events", "events users"),
    ("SELECT users FROM (SELECT users, events FROM t UNION ALL SELECT 1, 2)", "users"),
    ("SELECT users FROM (SELECT users, events FROM t UNION DISTINCT SELECT 1, 2)", "events users"),
    ("SELECT users FROM t JOIN shop_ops.loads ON event_date = landing_day", "event_date users"),
    ("SELECT users FROM t WHERE TRUE QUALIFY RANK() OVER (PARTITION BY event_type ORDER BY events) = 1",
     "event_type events users"),
    ("SELECT 1 + (SELECT MAX(users) FROM t)", "users"),
    ("MERGE t USING (SELECT 1) ON FALSE WHEN NOT MATCHED BY SOURCE THEN DELETE",
     "event_date event_type events sessions users"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), COLUMNS)
def test_a_column_is_read_if_what_is_asked_for_depends_on_it(
    analyzer: Analyzer, sql: str, expected: str
) -> None:
    assert sorted(read(analyzer, re.sub(r"\bt\b", COUNTS, sql))[COUNTS].columns) == expected.split()


def test_what_several_scans_read_of_a_table_is_told_day_by_day(analyzer: Analyzer) -> None:
    sql = (
        f"SELECT users FROM {COUNTS} WHERE event_date = @day UNION ALL "
        f"SELECT events FROM {COUNTS} WHERE event_date = DATE_SUB(@day, INTERVAL 7 DAY)"
    )
    found = read(analyzer, sql)[COUNTS]
    assert str(found) == "@day and @day-7"
    assert {offset: sorted(found.columns_on(offset)) for offset in (-7, -6, 0)} == {
        -7: ["event_date", "events"],
        -6: [],
        0: ["event_date", "users"],
    }
    [whole] = read(analyzer, f"SELECT users FROM {COUNTS}").values()
    with pytest.raises(ValueError, match="all days are read"):
        whole.columns_on(0)


def test_of_a_view_the_columns_are_read_that_are_asked_for_and_those_that_tell_its_rows_apart(
    analyzer: Analyzer,
) -> None:
    reads = read(analyzer, "SELECT user_id FROM shop.events WHERE event_date = @day AND event_type = 'view'")
    assert {table: sorted(found.columns) for table, found in reads.items()} == {
        "shop_raw.events_batch": ["event_date", "event_id", "event_type", "landing_day", "user_id"],
        "shop_raw.events_stream": ["event_date", "event_id", "event_type", "user_id"],
    }


def read(analyzer: Analyzer, sql: str) -> dict[str, Read]:
    def select_of_view(view: tables.Table) -> Any:
        return analyzer.analyze(view.view or "", {})

    return reads_of(analyzer.analyze(sql, {"day": "DATE"}), TABLES, select_of_view)


def days_read(analyzer: Analyzer, sql: str) -> dict[str, str]:
    return {table: str(found.days) for table, found in read(analyzer, sql).items()}
