"""Loads as the pipeline leaves them: their files, their manifests, their audit rows."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from beam_jobs.manifest import Manifest
from shopstream.load.publish import (
    Published,
    write_audit_row,
)
from shopstream.settings import settings
from shopstream.tables.folder import load_table

DAY = dt.date(2019, 11, 1)
ARROW_TYPES = {
    "DATE": pa.date32(),
    "INT64": pa.int64(),
    "NUMERIC": pa.decimal128(38, 9),
    "STRING": pa.string(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}


def manifest_of(
    landing_day: dt.date = DAY,
    load_id: str = "20191101-aaaaaaaa",
    *,
    accepted: Iterable[str] = (),
    rejected: Iterable[str] = (),
    **changes: Any,
) -> Manifest:
    """Return the manifest of a load whose counters add up."""
    return replace(
        Manifest(
            landing_day=landing_day,
            load_id=load_id,
            read=12,
            accepted=11,
            rejected=1,
            distinct=10,
            duplicates=1,
            late=0,
            rejected_by_reason={"bad_price": 1},
            event_dates={landing_day: 11},
            files=(),
            accepted_files=tuple(accepted),
            rejected_files=tuple(rejected),
            finished_at=dt.datetime(2019, 11, 2, tzinfo=dt.UTC),
        ),
        **changes,
    )


def audit(
    client: bigquery_api.Client,
    load_id: str,
    *,
    landing_day: dt.date = DAY,
    job_id: str = "job-0",
    event_dates: Iterable[dt.date] | None = None,
    **changes: Any,
) -> None:
    """Write the audit row of a published load."""
    dates = (DAY - dt.timedelta(days=1), DAY) if event_dates is None else tuple(event_dates)
    published = Published(dates, spanner_rows=10, bigquery_rows=10)
    write_audit_row(client, manifest_of(landing_day, load_id, **changes), job_id, published)


def parquet(bucket: storage.Bucket, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Upload accepted events as the pipeline writes them; return the file's URI."""
    table = load_table(settings().sql_dir, "shop_raw.events_batch")
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in table.schema])
    typed = [
        {**row, "price": Decimal(row["price"]), "event_time": row["event_time"].replace(tzinfo=dt.UTC)}
        for row in rows
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(typed, schema=schema), file)
    bucket.blob(f"accepted/{name}.parquet").upload_from_string(file.getvalue())
    return f"gs://{bucket.name}/accepted/{name}.parquet"


def rejected(
    bucket: storage.Bucket,
    name: str,
    raws: Iterable[bytes],
    day: dt.date = DAY,
    file: str = "gs://bucket/landing/events/2019-11-01/a.csv",
    **changes: Any,
) -> str:
    """Upload rejected lines as the pipeline writes them, but for `changes`; return the file's URI."""
    lines = [
        json.dumps(
            {
                "source": "batch",
                "rejected_date": day.isoformat(),
                "load_id": name,
                "file": file,
                "byte_offset": number,
                "line_bytes": len(raw),
                "raw": base64.b64encode(raw).decode(),
                "reason": "bad_price",
                "detail": "price is 'x'.",
                "rejected_at": "2019-11-02T01:02:03.456789Z",
                "message_id": None,
                "attributes": None,
                "publish_time": None,
                "lines": 1,
            }
            | changes
        )
        for number, raw in enumerate(raws)
    ]
    bucket.blob(f"rejected/{name}.jsonl").upload_from_string("\n".join(lines) + "\n")
    return f"gs://{bucket.name}/rejected/{name}.jsonl"
