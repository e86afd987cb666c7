"""make cost: bytes follow from the statements, dollars from the prices, and another commit's difference is
named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.events.files import write_landing_day
from local.root import ROOT
from shopstream.settings import settings
from shopstream.tables.folder import TableError, all_tables, load_table
from tools.cost import __main__ as cost
from tools.cost import measure
from tools.cost.queries import INTRADAY_RUNS, Query, queries, read_shop, sizes_of
from tools.cost.services import GIB

SQL_DIR = settings().sql_dir
SHOP = read_shop()
PRICES = yaml.safe_load(cost.PRICES.read_text())
LEAST = PRICES["bigquery"]["least_query_bytes_a_table"]
MEAN_BRANDS = "shop.mean_brands"
ROWS = 1_000_000


@pytest.fixture(scope="module")
def sql_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's sql with one summary more, whose bytes are easily told."""
    copied = Path(shutil.copytree(SQL_DIR, tmp_path_factory.mktemp("cost") / "sql"))
    folder = copied / "bigquery" / "shop" / "mean_brands"
    folder.mkdir()
    (folder / "query.sql").write_text(
        "SELECT event_date, COUNT(DISTINCT brand) AS brands\nFROM shop_raw.events_batch\n"
        "WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 1 DAY) AND @day\nGROUP BY event_date\n"
    )
    columns = [
        {"name": name, "type": kind, "mode": "REQUIRED", "description": "For a test."}
        for name, kind in (("event_date", "DATE"), ("brands", "INT64"))
    ]
    (folder / "schema.yaml").write_text(yaml.safe_dump(columns))
    metadata = {
        "owner": "tests",
        "description": "For a test.",
        "grain": ["event_date"],
        "reads": ["shop_raw.events_batch"],
        "partition_by": "event_date",
        "cluster_by": [],
        "labels": {},
        "lookback_days": 1,
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return copied


@pytest.fixture(scope="module")
def shop() -> dict[str, Any]:
    """The measured shop, with round figures for what the further summary reads and writes."""
    measured: dict[str, Any] = json.loads(json.dumps(SHOP))
    measured["tables"]["shop_raw.events_batch"]["rows"] = ROWS
    measured["tables"]["shop_raw.events_batch"]["texts"]["brand"] = 7.5
    measured["tables"][MEAN_BRANDS] = {"rows": ROWS, "texts": {}}
    return measured


@pytest.fixture(scope="module")
def found(sql_dir: Path, shop: dict[str, Any]) -> dict[tuple[str, str], Query]:
    return {(query.dag, query.name): query for query in queries(sql_dir, shop)}


@pytest.mark.integration
def test_a_build_is_billed_the_columns_and_days_that_it_reads_and_the_partition_that_it_replaces(
    found: dict[tuple[str, str], Query],
) -> None:
    build = found["build_summaries", f"build {MEAN_BRANDS}"]
    assert build.table_bytes == {
        "shop_raw.events_batch": ROWS * (8 + 7.5) * 2,
        MEAN_BRANDS: ROWS * (8 + 8),
    }
    assert found["build_summaries", f"check {MEAN_BRANDS}"].table_bytes == {MEAN_BRANDS: ROWS * 8}


@pytest.mark.integration
def test_a_build_runs_for_each_day_that_a_load_may_change_and_every_hour_for_two_and_every_six_for_late_days(
    found: dict[tuple[str, str], Query],
) -> None:
    # The landing day and the 7 before it; the days that look back on them are among these.
    assert found["build_summaries", f"build {MEAN_BRANDS}"].runs_a_day == 8
    assert found["build_summaries_intraday", f"build {MEAN_BRANDS}"].runs_a_day == 4 * 8 + 20 * 2
    # A session looks ahead: the day before the first too.
    assert found["build_summaries", "build shop.sessions"].runs_a_day == 9
    assert '"5 * * * *"' in (ROOT / "dags" / "build_summaries_intraday.py").read_text(), (
        "INTRADAY_RUNS is hourly"
    )
    assert INTRADAY_RUNS == 24


@pytest.mark.integration
def test_every_table_with_a_query_is_built_and_checked_by_some_dag(
    found: dict[tuple[str, str], Query],
) -> None:
    names = {name for _, name in found}
    for table in all_tables(SQL_DIR):
        if table.query:
            assert f"build {table.full_name}" in names
        if table.checks:
            assert f"check {table.full_name}" in names


def test_a_month_is_billed_by_what_grows_and_at_least_what_bigquery_bills_of_a_table() -> None:
    query = Query("q", "d", runs_a_day=2, table_bytes={"large": 10 * LEAST, "small": LEAST / 50, "audit": 0})
    assert query.bytes_a_month(1, LEAST) == 2 * 30 * (10 + 1 + 1) * LEAST
    assert query.bytes_a_month(100, LEAST) == 2 * 30 * (1000 + 2 + 1) * LEAST


def test_a_table_that_was_not_measured_is_refused_by_name(sql_dir: Path, shop: dict[str, Any]) -> None:
    tables = {MEAN_BRANDS: load_table(sql_dir, MEAN_BRANDS)}
    with pytest.raises(
        TableError, match=r"knows nothing of shop\.mean_brands; run `python -m tools\.cost\.measure`"
    ):
        sizes_of(tables, SHOP)
    sizes_of(tables, shop)


@pytest.mark.integration
def test_items_add_up_to_services_and_services_to_all_and_statements_cost_what_their_bytes_do(
    sql_dir: Path, shop: dict[str, Any], found: dict[tuple[str, str], Query]
) -> None:
    bill = cost.bill(sql_dir, shop)
    assert list(bill) == ["1", "100", "10000"]
    for times, of_one_size in bill.items():
        sums = cost.by_service(of_one_size)
        assert sums.pop("all") == pytest.approx(sum(sums.values()))
        assert set(sums) == {
            *("BigQuery queries", "BigQuery storage", "BigQuery streaming", "Dataflow", "Spanner"),
            *("Pub/Sub", "Cloud Storage", "Composer"),
        }
        for (dag, name), query in found.items():
            item = of_one_size[f"BigQuery queries: {dag}: {name}"]
            assert item["bytes"] == query.bytes_a_month(int(times), LEAST)
            assert item["dollars"] == pytest.approx(item["bytes"] / 2**40 * 6.25)
    small, large = (cost.by_service(bill[times]) for times in ("1", "10000"))
    for name in ("BigQuery storage", "BigQuery streaming", "Pub/Sub", "Cloud Storage"):
        assert large[name] == pytest.approx(10_000 * small[name]), name
    assert 5_000 < large["BigQuery queries"] / small["BigQuery queries"] <= 10_000
    assert large["Composer"] == small["Composer"]
    assert large["Spanner"] > 100 * small["Spanner"], "nodes and storage grow, from the least that there is"
    streamed = bill["1"]["BigQuery streaming: Storage Write API"]
    assert streamed["dollars"] == pytest.approx(streamed["bytes"] / GIB * 0.025)


@pytest.mark.integration
def test_a_query_that_became_dearer_is_named_in_the_difference_and_one_that_is_much_dearer_fails_it(
    sql_dir: Path,
    shop: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, dearer = tmp_path / "before.json", Path(shutil.copytree(sql_dir, tmp_path / "sql"))
    monkeypatch.setattr(cost, "read_shop", lambda: shop)
    monkeypatch.setenv("SHOPSTREAM_SQL_DIR", str(sql_dir))
    assert cost.main(["--json", str(before)]) == 0
    assert "| service | 1 x | 100 x | 10,000 x |" in capsys.readouterr().out
    assert cost.main(["--against", str(before)]) == 0
    assert "(+0.0 %). No item has changed." in capsys.readouterr().out

    query = dearer / "bigquery" / "shop" / "mean_brands" / "query.sql"
    query.write_text(query.read_text().replace("DISTINCT brand", "DISTINCT CONCAT(brand, user_session)"))
    monkeypatch.setenv("SHOPSTREAM_SQL_DIR", str(dearer))
    assert cost.main(["--against", str(before)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| BigQuery")]
    assert len(lines) == 2, "that build, after the load and in the hourly one"
    share = 2 * SHOP["tables"]["shop_raw.events_batch"]["texts"]["user_session"] / (2 * (8 + 7.5) + 16)
    for line in lines:
        assert f"build {MEAN_BRANDS}" in line
        assert f"dearer by {share:.0%}" in line
    assert cost.main(["--against", str(before), "--at-most", "0.01"]) == 1


def a_bill(query_dollars: Mapping[str, float]) -> cost.Bill:
    """Of one query, whose dollars are given by the shop's size, and of all else: 93, 930 and 9,300."""
    return {
        times: {
            "BigQuery queries: d: q": {"service": "BigQuery queries", "bytes": 1.0, "dollars": dollars},
            "Composer: c": {"service": "Composer", "bytes": None, "dollars": 93.0 * int(times) ** 0.5},
        }
        for times, dollars in query_dollars.items()
    }


def test_queries_that_read_twice_the_bytes_are_told_though_they_are_a_small_part_of_the_whole() -> None:
    once = a_bill({"1": 7, "100": 70, "10000": 700})
    twice = a_bill({"1": 14, "100": 140, "10000": 1400})
    text, percent = cost.difference(once, twice)
    assert percent == pytest.approx(100)
    assert "this shop costs 107 US dollars, before 100 (+7.0 %)." in text
    assert "BigQuery queries at 1 x: 14 US dollars, before 7 (+100.0 %)." in text
    assert cost.difference(twice, once)[1] < 0


def test_what_is_dearer_for_a_large_shop_alone_is_told_with_its_items_at_that_size() -> None:
    before, after = ({"1": 7.0, "100": 70.0, "10000": dollars} for dollars in (700.0, 840.0))
    text, percent = cost.difference(a_bill(before), a_bill(after))
    assert percent == pytest.approx(20)
    assert "BigQuery queries at 10,000 x: 840 US dollars, before 700 (+20.0 %)." in text
    assert "| BigQuery queries: d: q | 700.00 | 840.00 | dearer by 20% |" in text


def test_the_text_bytes_of_an_event_are_those_of_generated_events(tmp_path: Path) -> None:
    write_landing_day(tmp_path, measure.DAY, 20_000)
    [*blocks] = measure.accepted(tmp_path / str(measure.DAY))
    table = load_table(SQL_DIR, "shop_raw.events_batch")
    texts = measure.of_events(table, measure.pa.concat_tables(blocks))["texts"]
    assert texts == pytest.approx(SHOP["tables"]["shop_raw.events_batch"]["texts"], rel=0.05, abs=0.2)
