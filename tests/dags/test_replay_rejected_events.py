"""replay_rejected_events, as real DAG runs: what passes goes its ordinary way once, what does not stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1

from beam_jobs.messages import Message, judge
from shopstream.load.tasks import has_landed
from shopstream.retries import Refused
from shopstream.settings import settings
from tests.airflow_home import Run, load_dag, run_dag
from tests.dags.shop import DAY, Shop, line
from tests.dags.stream import Stream
from tests.sql.events import fill, rows_of

pytestmark = pytest.mark.integration

GOOD, BAD = (text.removesuffix("\n").encode() for text in (line(7), line(8, price="twelve")))


def kept(source: str, raw: bytes, **given: Any) -> dict[str, Any]:
    """A reject as an older contract would have left it."""
    return {
        "source": source,
        "rejected_date": DAY,
        "raw": raw,
        "line_bytes": len(raw),
        "reason": "bad_price",
        "detail": "price is no number",
        "rejected_at": datetime(2019, 11, 9, tzinfo=UTC),
        "lines": 1,
        **given,
    }


def replay(path: str, **conf: Any) -> Run:
    run = run_dag(load_dag("replay_rejected_events"), {"path": path, "first_day": str(DAY), **conf})
    assert run.state == "success", run.errors
    return run


def replays(client: bigquery_api.Client) -> list[dict[str, Any]]:
    return rows_of(client, "SELECT * FROM shop_ops.replays ORDER BY replayed_at")


def triggered() -> list[tuple[str, dict[str, str]]]:
    """The id and conf of each run of load_events_daily that a DAG has triggered."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        runs = session.scalars(select(DagRun).where(DagRun.run_type == "operator_triggered"))
        return [(run.run_id, dict(run.conf)) for run in runs if run.dag_id == "load_events_daily"]


def test_a_day_with_lines_that_pass_now_is_loaded_anew_once_and_its_rejects_are_closed(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.land([*(line(number) for number in range(200)), line(200, price="twelve")])
    load_id, file = "20191108-t00000000", f"gs://{shop.bucket.name}/landing/events/{DAY}/events.csv"
    of_load = {"load_id": load_id, "file": file, "byte_offset": 0}
    rejects = [kept("batch", GOOD, **of_load), kept("batch", BAD, **of_load, lines=50)]
    fill(shop.bigquery, "shop_raw.rejected_events_batch", rejects)

    run = replay("batch")
    assert (run.returned["replay"], run.states["load_days"]) == ([], "skipped")
    assert "Of 51, 1 would pass now." in caplog.text
    assert "bad_price: 50, such as '9999-99-99 99:99:99 xxx,xxxxxxxx," in caplog.text
    assert (replays(shop.bigquery), triggered()) == ([], [])
    # Of another reason, or another day, there is nothing.
    assert replay("batch", reason="bad_json", dry_run=False).returned["replay"] == []
    assert replay("batch", first_day="2019-11-07", dry_run=False).returned["replay"] == []

    load_dag("load_events_daily")
    run = replay("batch", dry_run=False)
    again = (f"replay__{load_id}", {"landing_day": str(DAY)})
    assert triggered() == [again]
    [row] = replays(shop.bigquery)
    assert (row["rejected_date"], row["run_id"], row["judged"], row["passed"]) == (DAY, run.run_id, 51, 1)
    assert (row["reject_ids"], row["load_run_id"]) == ([load_id], again[0])
    assert json.loads(row["verdicts"]) == {"bad_price": {"bad_price": 50, "passes": 1}}
    # Before the load is over, and after it.
    for reload in (False, True):
        if reload:
            assert shop.load().errors == {}
            assert len(shop.published()) == 200
            [(kept_load, lines)] = shop.query("SELECT load_id, lines FROM shop_raw.rejected_events_batch")
            assert (kept_load > load_id, lines) == (True, 1)
        assert replay("batch", dry_run=False).returned["replay"] == []
        assert (replays(shop.bigquery), triggered()) == ([row], [again])


def test_a_triggered_load_of_a_day_that_is_not_landed_does_not_wait_for_it(shop: Shop) -> None:
    run = SimpleNamespace(run_type="operator_triggered")
    with pytest.raises(Refused, match="holds nothing"):
        has_landed(dag_run=run, params={"landing_day": str(DAY), "wait": False})


@pytest.fixture
def pull(stream: Stream) -> Iterator[Any]:
    """Returns the messages that were published to the topic since it was asked last."""
    with pubsub_v1.SubscriberClient(credentials=AnonymousCredentials()) as subscriber:
        subscription = subscriber.subscription_path(settings().project, f"replay-{settings().region}")
        topic = subscriber.topic_path(settings().project, settings().topic)
        subscriber.create_subscription(name=subscription, topic=topic, timeout=30)

        def messages() -> list[tuple[bytes, dict[str, str]]]:
            answer = subscriber.pull(
                subscription=subscription, max_messages=100, return_immediately=True, timeout=10
            )
            if answer.received_messages:
                ack_ids = [received.ack_id for received in answer.received_messages]
                subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
            found = [received.message for received in answer.received_messages]
            return [(message.data, dict(message.attributes)) for message in found]

        yield messages
        subscriber.delete_subscription(subscription=subscription)


def test_messages_that_pass_now_are_published_once_and_are_shown_once(
    stream: Stream, pull: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = stream.bigquery
    client.query_and_wait("TRUNCATE TABLE shop_ops.replays")
    rejects = [
        # Delivered, and so rejected, twice.
        kept("stream", GOOD, message_id="11"),
        kept("stream", GOOD, message_id="11", rejected_at=datetime(2019, 11, 8, tzinfo=UTC)),
        kept("stream", BAD, message_id="12"),
        kept("stream", GOOD[:-9], message_id="13", line_bytes=len(GOOD)),
        kept("stream", GOOD, message_id="14", reason="refused_by_bigquery"),
        kept("stream", GOOD, message_id="15", rejected_date=DAY + timedelta(days=1)),
    ]
    fill(client, "shop_raw.rejected_events_stream", rejects)

    replay("stream")
    assert "Of 4, 1 would pass now." in caplog.text
    assert (replays(client), pull()) == ([], [])

    with monkeypatch.context() as patch:
        patch.setenv("SHOPSTREAM_TOPIC", "no-such-topic")
        failed = run_dag(
            load_dag("replay_rejected_events"), {"path": "stream", "first_day": str(DAY), "dry_run": False}
        )
        assert (failed.states["replay"], failed.tries["replay"]) == ("failed", 1)
        assert "no-such-topic: 404" in failed.errors["replay"]
        assert replays(client) == []

    run = replay("stream", dry_run=False)
    assert pull() == [(GOOD, {"replay_of": "11"})]
    [row] = replays(client)
    assert (row["reject_ids"], row["judged"], row["passed"], row["run_id"]) == (["11"], 4, 1, run.run_id)
    replay("stream", dry_run=False)
    assert (pull(), replays(client)) == ([], [row])

    # The stream takes it, which has had the event before by another message.
    [event] = judge([Message(GOOD, "16")]).events.to_pylist()
    fill(client, "shop_raw.events_stream", [event, event | {"message_id": "2"}])
    shown = rows_of(client, f"SELECT event_id FROM shop.events WHERE event_date = '{DAY}'")
    assert [row["event_id"] for row in shown].count(event["event_id"]) == 1

    # Of two days, with the reason that a store refused by.
    replay("stream", dry_run=False, last_day=str(DAY + timedelta(days=1)), reason="refused_by_bigquery")
    replay("stream", dry_run=False, last_day=str(DAY + timedelta(days=1)))
    assert [attributes for _, attributes in pull()] == [{"replay_of": "14"}, {"replay_of": "15"}]


def test_a_stream_of_another_version_gets_nothing_to_reject_again(stream: Stream, pull: Any) -> None:
    fill(stream.bigquery, "shop_raw.rejected_events_stream", [kept("stream", GOOD, message_id="21")])
    stream.deploy("older")
    job_id = stream.launch(version="older")
    conf = {"path": "stream", "first_day": str(DAY)}
    run = run_dag(load_dag("replay_rejected_events"), conf | {"dry_run": False})
    assert (run.states["replay"], run.tries["replay"]) == ("failed", 1)
    assert f"the stream that runs is {job_id}" in run.errors["replay"]
    assert pull() == []
    assert run_dag(load_dag("replay_rejected_events"), conf).state == "success"


def test_days_that_cannot_be_meant_fail_and_say_so(stream: Stream) -> None:
    conf = {"path": "stream", "first_day": str(DAY), "last_day": str(date(2019, 11, 1))}
    run = run_dag(load_dag("replay_rejected_events"), conf)
    assert run.errors["replay"] == "first_day 2019-11-08 is after last_day 2019-11-01; swap them"


@pytest.mark.parametrize(("name", "value"), [("path", "both"), ("reason", "bad_luck"), ("dry_run", "no")])
def test_the_form_refuses_what_cannot_be(name: str, value: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load_dag("replay_rejected_events").params[name] = value
