"""The probes of BigQuery, against its emulator: what it may answer is as expected, the rest needs Google."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date, datetime, time, timedelta

import pytest
from google.cloud import bigquery as bigquery_api

from tests.plugins.load.landed import audit
from tests.sql.events import batch_event, fill, stream_event
from tools.cloud_proof import of_bigquery
from tools.cloud_proof.ground import Ground
from tools.cloud_proof.of_bigquery import compare, derive
from tools.cloud_proof.probe import Open, Otherwise, Verdict, prove

DAY = date(2019, 11, 1)


@pytest.mark.integration
# The clients of all stores are made together; a build asks for the events of days.
@pytest.mark.usefixtures("spanner_emulator", "bigquery_tables")
def test_what_an_emulator_can_answer_is_as_expected_and_the_datasets_are_gone_afterwards(
    ground: Ground, bigquery: bigquery_api.Client
) -> None:
    before = {dataset.dataset_id for dataset in bigquery.list_datasets()}
    outcomes = {outcome.probe: outcome for outcome in prove(of_bigquery.PROBES, ground, run=True)}
    assert {name: (outcome.verdict, outcome.found) for name, outcome in outcomes.items()} == {
        "build-twice": (Verdict.AS_EXPECTED, "3, 3, 3 rows of 3, in 3 days"),
        "job-id-twice": (Verdict.AS_EXPECTED, "1 job, 3 rows of 3"),
        "append-arrow": (Verdict.AS_EXPECTED, "2 rows of 6 types, as they were given"),
        "rows-of-days": (Verdict.NEEDS_GOOGLE, "BIGQUERY_EMULATOR_HOST names an emulator"),
        "derived-bytes": (Verdict.NEEDS_GOOGLE, "BIGQUERY_EMULATOR_HOST names an emulator"),
        "pruning": (Verdict.NEEDS_GOOGLE, "BIGQUERY_EMULATOR_HOST names an emulator"),
    }
    assert {dataset.dataset_id for dataset in bigquery.list_datasets()} == before


@pytest.mark.integration
def test_derived_bytes_are_those_of_the_stored_rows_of_the_days_and_columns_read(
    bigquery_tables: bigquery_api.Client,
) -> None:
    fill(
        bigquery_tables,
        "shop_raw.events_batch",
        [batch_event(event_id="a"), batch_event(event_id="bcd"), batch_event(event_id="e", landing_day=DAY)],
    )
    fill(bigquery_tables, "shop_raw.events_stream", [stream_event(event_id="a")])
    queries = {
        "the view": "SELECT user_id FROM shop.events WHERE event_date = @day",
        "a table": "SELECT brand FROM shop_raw.events_stream WHERE event_date = @day",
        "the day before": (
            "SELECT user_id FROM shop_raw.events_batch WHERE event_date = DATE_SUB(@day, INTERVAL 1 DAY)"
        ),
    }
    brand = batch_event()["brand"]
    assert derive(bigquery_tables, queries, DAY) == {
        # event_id, and of the batch landing_day, tell events apart; event_date is filtered.
        "the view": (3 + 5 + 3) + 3 * (8 + 8 + 8) + 3 + 1 * (8 + 8),
        "a table": 2 + len(brand) + 8,
        "the day before": 0,
    }


@pytest.mark.integration
def test_what_a_load_replaces_and_counts_is_derived_from_the_stored_rows_of_the_days_it_may_touch(
    bigquery_tables: bigquery_api.Client,
) -> None:
    staging = "shop_raw.staging"
    schema = bigquery_tables.get_table("shop_raw.events_batch").schema
    bigquery_tables.create_table(bigquery_api.Table(f"{bigquery_tables.project}.{staging}", schema=schema))
    audit(
        bigquery_tables,
        "20191101-aaaaaaaa",
        event_dates=[DAY, DAY - timedelta(days=1), DAY - timedelta(days=2)],
    )
    noons = [datetime.combine(DAY, time(12)) - timedelta(days=days) for days in (0, 7, 8)]
    rows = [batch_event(event_id="a", event_time=noon, landing_day=DAY) for noon in noons]
    fill(bigquery_tables, "shop_raw.events_batch", rows)
    statements = of_bigquery.statements_with_limits(staging)
    assert {"build shop.sessions", "check shop.sessions"} <= statements.keys()
    derived = derive(bigquery_tables, statements, DAY, staging)
    assert derived.keys() == of_bigquery.told(bigquery_tables, statements, DAY).keys() == statements.keys()
    # Of two days: event_date, landing_day, and load_id, which has 17 characters.
    assert derived["write the audit row"] == 2 * (8 + 8 + 2 + 17)
    # Of two days event_date and landing_day; of the audit row landing_day and its three event_dates.
    assert derived["find the days touched"] == 2 * (8 + 8) + 8 + 3 * 8
    assert derived["replace the landing day"] > 2 * derived["write the audit row"]


@pytest.mark.integration
@pytest.mark.usefixtures("spanner_emulator", "bigquery_tables")
def test_the_rows_of_a_day_are_told_beside_an_empty_table(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as undo:
        assert of_bigquery.rows_of_days(ground, undo) == "3 rows of 2001-01-01, and none else"
    monkeypatch.setattr(of_bigquery, "ROWS", of_bigquery.ROWS.replace("MAX(", "2 * MAX("))
    with ExitStack() as undo, pytest.raises(Otherwise, match="'20010101': 6"):
        of_bigquery.rows_of_days(ground, undo)


@pytest.mark.integration
@pytest.mark.usefixtures("spanner_emulator")
def test_a_shop_without_days_leaves_open_what_only_days_can_tell(
    ground: Ground, bigquery_tables: bigquery_api.Client
) -> None:
    for probe in (of_bigquery.derived_bytes, of_bigquery.pruning):
        with pytest.raises(Open, match="the shop has events of 0 days"):
            probe(ground, ExitStack())


def test_bytes_within_a_twentieth_are_near_enough_and_others_are_named() -> None:
    assert compare({"a": 104, "b": 96, "c": 0}, {"a": 100, "b": 100, "c": 0}) == "3 queries, at most 4.0% off"
    with pytest.raises(Otherwise, match=r"^a: 106 derived, 100 told \(\+6\.0%\); b: 1 derived, 0 told"):
        compare({"a": 106, "b": 1, "c": 100}, {"a": 100, "b": 0, "c": 100})
