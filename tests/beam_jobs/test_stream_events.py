"""The stream's pipeline: every message in one of two tables, by steps whose names an update can rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from google.cloud import bigquery as bigquery_api
from google.cloud.storage import Bucket

from beam_jobs import stream_events
from beam_jobs.bigquery_sink import BigQuerySink
from beam_jobs.contract import MAX_LINE_BYTES
from beam_jobs.messages import Message, Reject
from beam_jobs.pseudonyms import Pseudonyms
from beam_jobs.stream_events import (
    AT_LEAST_ONCE,
    StreamOptions,
    land,
    parse_options,
    streaming_options,
    write_rejects,
)
from local.dataflow import stream_driver
from local.root import ROOT
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.folder import load_table
from tests.beam_jobs.bigquery_server import TAKEN, Answer, refused, serving
from tests.beam_jobs.job_graph import translate
from tests.beam_jobs.samples import LINE, POISON, rows_in
from tools.compose_proof import check_graph

PROJECT = settings().project
OPTIONS = {
    "subscription": f"projects/{PROJECT}/subscriptions/events-stream",
    "events_table": f"{PROJECT}:shop_raw.events_stream",
    "rejected_table": f"{PROJECT}:shop_raw.rejected_events_stream",
}
ARGUMENTS = [f"--{name}={value}" for name, value in OPTIONS.items()]
STREAM = StreamOptions(**OPTIONS)
PUBLISHED = datetime(2026, 3, 1, 23, 59, 59, 123456, tzinfo=UTC)


def message(data: bytes, message_id: str = "1", **attributes: str) -> Message:
    return Message(data, message_id, PUBLISHED, attributes)


def run(messages: list[Message], stream: StreamOptions = STREAM) -> dict[str, int]:
    """Land messages in a pipeline on this machine; return its counters."""
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    land(pipeline | "Messages" >> beam.Create(messages), stream)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("stream_events"))["counters"]
    return {counter.key.metric.name: counter.committed for counter in counters}


@pytest.fixture
def client(bigquery_clean: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with the two tables of the stream, empty."""
    for name in ("events_stream", "rejected_events_stream"):
        apply(bigquery_clean, load_table(settings().sql_dir, f"shop_raw.{name}"))
    return bigquery_clean


@pytest.mark.integration
def test_an_event_is_a_row_with_its_types(client: bigquery_api.Client) -> None:
    counters = run([message(LINE, "17")])

    [row] = rows_in(client, "events_stream")
    assert len(row.pop("event_id")) == 32
    assert row == {
        "event_date": date(2019, 11, 1),
        "event_time": datetime(2019, 11, 1, tzinfo=UTC),
        "event_type": "view",
        "product_id": 1,
        "category_id": 2,
        "category_code": "a.b",
        "category_level_1": "a",
        "category_level_2": "b",
        "category_level_3": None,
        "category_level_4": None,
        "brand": "sony",
        "price": Decimal("3.5"),
        "user_id": 4,
        "user_session": "s-1",
        "publish_time": PUBLISHED,
        "message_id": "17",
    }
    assert rows_in(client, "rejected_events_stream") == []
    assert counters == {"read": 1, "accepted": 1, "rejected": 0, "refused_by_bigquery": 0}


@pytest.mark.integration
def test_with_a_key_an_event_has_pseudonyms_and_a_reject_tells_of_nobody(
    client: bigquery_api.Client, tmp_path: Path
) -> None:
    key = tmp_path / "pseudonym.key"
    key.write_text("0123456789abcdef" * 2)
    line = LINE.replace(b",4,s-1", b",520088904,4d3b30da")
    bad = line.replace(b"3.50", b"free")

    run([message(line, "1"), message(bad, "2", user="520088904")], replace(STREAM, pseudonym_key=str(key)))

    pseudonyms = Pseudonyms(key.read_bytes())
    [row] = rows_in(client, "events_stream")
    assert row["user_id"] == pseudonyms.user(520088904)
    assert row["user_session"] == pseudonyms.session("4d3b30da")
    [reject] = rows_in(client, "rejected_events_stream")
    assert reject["raw"] == b"####-##-## ##:##:## xxx,xxxx,#,#,x.x,xxxx,xxxx,#########,#x#x##xx"
    assert (reject["detail"][:19], reject["attributes"]) == ("price is 'xxxx'; ex", None)


@pytest.mark.integration
def test_poison_goes_to_the_rejects_with_its_bytes_and_everything_told_of_it(
    client: bigquery_api.Client,
) -> None:
    attributes = {"": "no name", "NUL \0": "line\nfeed", "\U0001f600": "\u00e9\ufffe", "n" * 256: "v" * 1024}
    poison = [message(data, name, **attributes) for name, (data, _, _) in POISON.items()]

    counters = run([message(LINE, "good 1"), *poison, message(LINE, "good 2")])

    assert [row["message_id"] for row in rows_in(client, "events_stream")] == ["good 1", "good 2"]
    rejects = {row["message_id"]: row for row in rows_in(client, "rejected_events_stream")}
    assert set(rejects) == set(POISON)
    for name, (data, reason, told) in POISON.items():
        row = rejects[name]
        assert row["raw"] == data[:MAX_LINE_BYTES]
        assert row["line_bytes"] == len(data)
        assert row["reason"] == reason
        assert told in row["detail"]
        assert json.loads(row["attributes"]) == attributes
        assert (row["source"], row["rejected_date"]) == ("stream", PUBLISHED.date())
        assert row["publish_time"] == PUBLISHED
        assert row["rejected_at"] > datetime(2019, 1, 1, tzinfo=UTC)
        assert [row[column] for column in ("load_id", "file", "byte_offset")] == [None, None, None]
    assert counters == {
        "read": len(POISON) + 2,
        "accepted": 2,
        "rejected": len(POISON),
        "refused_by_bigquery": 0,
    }


@pytest.mark.integration
def test_an_event_that_bigquery_refuses_is_a_reject_with_its_reason(
    client: bigquery_api.Client,
) -> None:
    # BigQuery takes no day from a stream that is more than a year ahead.
    ahead = LINE.replace(b"2019-11-01", b"2219-11-01")

    counters = run([message(ahead, "refused", a="b"), message(LINE, "taken")])

    assert [row["message_id"] for row in rows_in(client, "events_stream")] == ["taken"]
    [reject] = rows_in(client, "rejected_events_stream")
    assert (reject["message_id"], reject["reason"]) == ("refused", "refused_by_bigquery")
    assert reject["detail"].startswith("The day 2219-11-01 of event_date is later than ")
    assert (reject["raw"], reject["attributes"]) == (ahead, '{"a": "b"}')
    assert counters["refused_by_bigquery"] == 1


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The rows that a BigQuery took which refuses those with attributes or more than 1,024 raw bytes."""
    taken: list[dict[str, Any]] = []

    def answer(sent_rows: list[dict[str, Any]]) -> Answer:
        bad = {
            index
            for index, row in enumerate(sent_rows)
            if row["attributes"] not in ("{}", None) or len(row["raw"]) > 1024 or row["reason"] == "bad_json"
        }
        if bad:
            return refused(*bad)
        taken.extend(sent_rows)
        return TAKEN

    with serving(answer) as (host, _):
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", host)
        yield taken


def test_a_reject_that_bigquery_refuses_is_kept_in_a_shorter_form(sent: list[dict[str, Any]]) -> None:
    write_rejects(
        BigQuerySink(STREAM.rejected_table),
        [
            Reject(message(b"short", "1"), "wrong_column_count", "told"),
            Reject(message(b"with attributes", "2", a="b"), "wrong_column_count", "told"),
            Reject(message(b"x" * 5000, "3"), "wrong_column_count", "told" * 1000),
        ],
    )

    assert [row["message_id"] for row in sent] == ["1", "2", "3"]
    _, second, third = sent
    assert (second["attributes"], second["raw"]) == (None, b"with attributes")
    assert second["detail"] == "told (Shortened, since BigQuery refused the whole: told)"
    assert (third["line_bytes"], len(third["raw"])) == (5000, 1024)
    assert len(third["detail"]) == 1000


def test_a_masked_reject_tells_nothing_of_a_customer_in_its_shorter_form_either(
    sent: list[dict[str, Any]],
) -> None:
    detail = f"Doesn't fit: '520088904 {'x' * 1000}'"
    write_rejects(
        BigQuerySink(STREAM.rejected_table),
        [Reject(message(b"x" * 5000), "wrong_column_count", detail)],
        mask=True,
    )
    [row] = sent
    assert len(row["detail"]) == 1000
    assert "#########" in row["detail"]
    assert not any(character.isdigit() for character in row["detail"])


def test_a_reject_refused_in_its_shortest_form_too_fails_the_step(sent: list[dict[str, Any]]) -> None:
    with pytest.raises(stream_events.RejectRefused, match=r"the first of message 2: told"):
        write_rejects(
            BigQuerySink(STREAM.rejected_table),
            [
                Reject(message(b"short", "1"), "wrong_column_count", "told"),
                Reject(message(b"{", "2"), "bad_json", "told"),
            ],
        )
    assert [row["message_id"] for row in sent] == ["1"]


def test_every_step_has_the_name_by_which_a_running_job_is_updated() -> None:
    # A step of another name is a new step: Dataflow then refuses the update.
    assert stream_driver.steps(ARGUMENTS) == [
        "Read messages",
        "Read messages/Read",
        "Read messages/ParDo(_AddMetricsPassThrough)",
        "Read messages/Map(_from_proto_str)",
        "Take messages",
        "Parse and validate",
        "Write events",
        "Write rejects",
    ]


def test_what_beam_reads_is_taken_over_whole() -> None:
    read = PubsubMessage(b"data", {"a": "b"}, "17", PUBLISHED)
    assert stream_events.take_message(read) == Message(b"data", "17", PUBLISHED, {"a": "b"})
    assert stream_events.take_message(PubsubMessage(None, {"a": "b"})).data == b""


def test_the_stream_runs_on_streaming_engine_at_least_once_unless_told_otherwise() -> None:
    options = streaming_options([])
    assert options.view_as(StandardOptions).streaming
    cloud = options.view_as(GoogleCloudOptions)
    assert cloud.enable_streaming_engine
    assert cloud.dataflow_service_options == ["streaming_mode_at_least_once"]

    exactly_once = "--dataflow_service_options=streaming_mode_exactly_once"
    cloud = streaming_options([exactly_once]).view_as(GoogleCloudOptions)
    assert cloud.dataflow_service_options == ["streaming_mode_exactly_once"]


def test_the_template_and_the_pipeline_agree_on_the_parameters() -> None:
    metadata = json.loads((ROOT / "beam_jobs" / "templates" / "stream_events.json").read_text())

    assert metadata["streaming"]
    names = [parameter["name"] for parameter in metadata["parameters"]]
    optional = [
        parameter["name"] for parameter in metadata["parameters"] if parameter.get("isOptional", False)
    ]
    assert (names, optional) == ([*OPTIONS, "pseudonym_key"], ["pseudonym_key"])
    assert parse_options(ARGUMENTS) == (STREAM, [])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--subscription=events-stream", "projects/PROJECT/subscriptions/NAME"),
        ("--events_table=shop_raw.events_stream", "is not a table such as PROJECT:DATASET.TABLE"),
        ("--pseudonym_key=projects/p/secrets/s/versions/latest", "names no key; give a numbered version"),
        ("--rejected_table=p:rejected", "'p:rejected' is not a table such as PROJECT:DATASET.TABLE"),
    ],
)
def test_a_malformed_option_is_told_by_name_and_value(
    option: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_options([*ARGUMENTS, option])

    error = capsys.readouterr().err
    assert option.partition("=")[0] in error
    assert told in error


@pytest.mark.integration
def test_dataflow_is_sent_runner_v2_streaming_engine_our_image_and_no_main_session(bucket: Bucket) -> None:
    graph = translate("stream_events", stream_events.run, bucket)

    check_graph(graph.job, "stream_events")
    assert "pickled_main_session" not in graph.staged, "workers import beam_jobs from their image"
    assert "enable_streaming_engine" in graph.job["environment"]["experiments"]
    assert AT_LEAST_ONCE in graph.job["environment"]["serviceOptions"]
    assert list(graph.key_coders()) == [], "a stream without state groups nothing"
