"""Each emulator answers Google's own client."""

from __future__ import annotations

import gzip
import io
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1, storage
from google.cloud.spanner_v1.database import Database
from google.cloud.storage.exceptions import InvalidResponse

from local.stack import emulators
from shopstream.settings import settings
from tests.conftest import LOGS

pytestmark = pytest.mark.integration


def test_spanner_answers_a_query_in_a_fresh_database(spanner_database: Database) -> None:
    assert spanner_database.database_id == settings().spanner_database
    with spanner_database.snapshot() as snapshot:
        assert list(snapshot.execute_sql("SELECT 1")) == [[1]]


def test_bigquery_loads_parquet_that_was_uploaded_to_cloud_storage(
    bigquery_clean: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    rows = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2, 3]}), rows)
    bucket.blob("accepted/2019-11-01/part-0.parquet").upload_from_string(rows.getvalue())

    bigquery_clean.create_dataset("shop_raw")
    table = bigquery_api.Table(
        f"{settings().project}.shop_raw.numbers", [bigquery_api.SchemaField("n", "INT64")]
    )
    job = bigquery_clean.load_table_from_uri(
        f"gs://{bucket.name}/accepted/2019-11-01/*.parquet",
        bigquery_clean.create_table(table),
        job_config=bigquery_api.LoadJobConfig(source_format="PARQUET"),
    )
    job.result(timeout=30)

    found = bigquery_clean.query_and_wait("SELECT SUM(n) AS total FROM shop_raw.numbers")
    assert [row.total for row in found] == [6]


def test_a_clean_bigquery_has_no_datasets(bigquery_clean: bigquery_api.Client) -> None:
    assert list(bigquery_clean.list_datasets()) == []


@pytest.mark.usefixtures("bigquery")
def test_the_start_of_bigquery_asks_the_internet_for_nothing() -> None:
    """Where nobody answers there, a start would wait for it."""
    assert "duckdb.org" not in (LOGS / "bigquery.log").read_text()


def test_an_object_is_served_at_its_own_url(bucket: storage.Bucket, gcs_emulator: str) -> None:
    bucket.blob("reports/events/a.html").upload_from_string("<html>", content_type="text/html")

    assert emulators.answers(f"{settings().object_url}/{bucket.name}/reports/events/a.html")
    assert not emulators.answers(f"{settings().object_url}/{bucket.name}/reports/events/b.html")


def test_pubsub_delivers_a_published_message(pubsub_emulator: str) -> None:
    publisher = pubsub_v1.PublisherClient(credentials=AnonymousCredentials())
    subscriber = pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())
    topic = publisher.topic_path(settings().project, "test-events")
    subscription = subscriber.subscription_path(settings().project, "test-events")
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic)

    publisher.publish(topic, b"one").result(timeout=30)

    pulled = subscriber.pull(subscription=subscription, max_messages=1, timeout=30)
    assert [message.message.data for message in pulled.received_messages] == [b"one"]


def test_a_variable_that_names_no_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOPSTREAM_SPANNER_EMULATOR", str(tmp_path / "gone"))

    with pytest.raises(emulators.NotReady, match=r"SHOPSTREAM_SPANNER_EMULATOR names .*gone, which"):
        emulators.spanner(1)


def test_a_missing_emulator_names_three_ways_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulators, "gcloud_sdk", lambda: None)

    with pytest.raises(emulators.NotReady) as told:
        emulators.spanner(1)

    for way in (
        "gcloud components install",
        "google-cloud-cli-spanner-emulator",
        "SHOPSTREAM_SPANNER_EMULATOR",
    ):
        assert way in str(told.value)


def test_the_sdk_is_found_by_where_gcloud_lies_and_a_wrapper_of_gcloud_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gcloud, linked, wrapper = tmp_path / "sdk/bin/gcloud", tmp_path / "links/gcloud", tmp_path / "wrap/gcloud"
    for file in (gcloud, linked, wrapper, tmp_path / "sdk/lib/gcloud.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
    for program, text in ((gcloud, "exit 1"), (wrapper, f"echo {tmp_path}/told")):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    (tmp_path / "sdk/lib/gcloud.py").touch()
    linked.symlink_to(gcloud)

    for folder, root in (("sdk/bin", "sdk"), ("links", "sdk"), ("wrap", "told")):
        monkeypatch.setenv("PATH", f"{tmp_path / folder}:/bin:/usr/bin")
        emulators.gcloud_sdk.cache_clear()
        assert emulators.gcloud_sdk() == tmp_path / root
    emulators.gcloud_sdk.cache_clear()


def test_a_program_that_ends_at_its_start_is_told_with_its_log(tmp_path: Path) -> None:
    program = emulators.Program("false", ("false",), lambda: False)

    with (
        pytest.raises(emulators.NotReady, match=r"false ended with code 1 .*false\.log"),
        emulators.running(program, tmp_path / "false.log"),
    ):
        pass


def test_an_object_with_an_encoding_is_served_as_cloud_storage_does(
    bucket: storage.Bucket, gcs_emulator: str
) -> None:
    content = b"".join(b"%d\n" % number for number in range(1000))
    stored = gzip.compress(content)
    blob = bucket.blob("a.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(stored, content_type="text/csv")
    assert bucket.get_blob("a.csv").size == len(stored)

    def get(**headers: str) -> tuple[int, bytes, str | None]:
        request = urllib.request.Request(f"{gcs_emulator}/{bucket.name}/a.csv", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers["Content-Encoding"]

    assert get(**{"Accept-Encoding": "gzip"}) == (200, stored, "gzip")
    assert get(**{"Accept-Encoding": "gzip", "Range": "bytes=10-19"}) == (206, stored[10:20], "gzip")
    assert get() == (200, content, None)
    assert get(Range="bytes=10-19") == (200, content, None)
    assert blob.download_as_bytes() == content
    assert blob.download_as_bytes(raw_download=True) == stored


def test_an_object_that_was_written_anew_has_no_more_bytes_of_its_former_generation(
    bucket: storage.Bucket,
) -> None:
    bucket.blob("a.csv").upload_from_string(b"former")
    former = bucket.get_blob("a.csv")
    assert former.download_as_bytes(start=2, end=3) == b"rm"

    bucket.blob("a.csv").upload_from_string(b"latter")

    assert not former.exists()
    for span in ({}, {"start": 2, "end": 3}):
        with pytest.raises(NotFound, match="No such object"):
            former.download_as_bytes(**span)
    assert bucket.get_blob("a.csv").download_as_bytes() == b"latter"


def test_an_object_is_written_or_deleted_only_if_it_is_of_the_generation_that_is_asked_for(
    bucket: storage.Bucket,
) -> None:
    new = bucket.blob("a.csv")
    new.upload_from_string(b"first", if_generation_match=0)
    begun = bucket.blob("a.csv").open("wb", chunk_size=2**18, if_generation_match=new.generation)
    begun.write(b"x" * (2**18 + 1))  # more than a part, so that the upload has begun
    bucket.blob("a.csv").upload_from_string(b"second", if_generation_match=new.generation)

    with pytest.raises(InvalidResponse, match="412"):
        begun.close()
    for write in (
        lambda: bucket.blob("a.csv").upload_from_string(b"other", if_generation_match=0),
        lambda: bucket.blob("a.csv").upload_from_string(b"other", if_generation_match=new.generation),
        lambda: bucket.blob("a.csv").delete(if_generation_match=new.generation),
    ):
        with pytest.raises(PreconditionFailed):
            write()
    second = bucket.get_blob("a.csv")
    assert second.download_as_bytes() == b"second"
    second.delete(if_generation_match=second.generation)
    assert not second.exists()


def test_a_bucket_has_a_page_of_its_folders_and_objects(bucket: storage.Bucket, gcs_emulator: str) -> None:
    for name in ("landing/events/2019-11-01/a.csv", "landing/b <c>.csv"):
        bucket.blob(name).upload_from_string(b"12345")

    def page(query: str) -> str:
        with urllib.request.urlopen(f"{gcs_emulator}/{bucket.name}/{query}", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            text: str = answer.read().decode()
            return text

    assert f'href="/{bucket.name}/?prefix=landing/"' in page("")
    assert 'landing/b%20%3Cc%3E.csv">landing/b &lt;c&gt;.csv</a><td>5 bytes' in page("?prefix=landing/")
    assert f'href="/{bucket.name}/landing/events/2019-11-01/a.csv"' in page(
        "?prefix=landing/events/2019-11-01/"
    )
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{gcs_emulator}/no-such-bucket/", timeout=10)


def test_what_speaks_no_http_answers_nothing(spanner_emulator: str) -> None:
    assert not emulators.answers(f"http://{spanner_emulator}/healthz")
