"""What a test of a DAG does with a shop: land files, run DAGs, look into the stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from google.cloud.bigquery import Client as BigQueryClient
from google.cloud.spanner_v1.database import Database
from google.cloud.storage import Bucket

from beam_jobs.contract import COLUMN_NAMES
from shopstream import alerts
from shopstream.settings import settings
from tests.airflow_home import CUSTOMERS, SESSIONS, Run, load_dag, run_dag
from tests.local.dataflow.service import Service, until

DAY = date(2019, 11, 8)


def line(number: int, day: date | str = DAY, **fields: Any) -> str:
    """One event as a line of a landing file; different for each number and day."""
    values = {
        "event_time": f"{day} 10:{number // 60 % 60:02d}:{number % 60:02d} UTC",
        "event_type": ("view", "cart", "purchase")[number % 3],
        "product_id": 1_000_000 + number,
        "category_id": 2053013555631882655,
        "category_code": "appliances.kitchen.washer",
        "brand": "nan",
        "price": "12.5",
        "user_id": CUSTOMERS[number % len(CUSTOMERS)],
        "user_session": SESSIONS + hashlib.md5(f"{day}{number}".encode()).hexdigest()[len(SESSIONS) :],
    }
    return ",".join(str((values | fields)[name]) for name in COLUMN_NAMES) + "\n"


def alerts_of(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """The reason that each failed task was told with, by its id."""
    lines = [record.getMessage() for record in caplog.records if record.name == alerts.log.name]
    told = [json.loads(line.removeprefix(f"{alerts.ALERT_PREFIX} {settings().alert_id}")) for line in lines]
    return {alert["task_id"]: alert["reason"] for alert in told if alert["kind"] == "task_failed"}


def days_told(asset: Any, run: Run) -> Any:
    """The days that the run's event of the asset names."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        event = session.scalars(
            select(AssetEvent)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_run_id == run.run_id, AssetModel.uri == asset.uri)
        ).one()
        return event.extra["days"]


@dataclass
class Shop:
    """The stores of one test, and the DAGs on them."""

    bucket: Bucket
    database: Database
    bigquery: BigQueryClient
    dataflow: Service

    def land(self, lines: Iterable[str], day: date = DAY, name: str = "events.csv") -> None:
        """Write one landing file and mark the day complete."""
        folder = f"landing/events/{day}"
        self.bucket.blob(f"{folder}/{name}").upload_from_string("".join(lines))
        self.bucket.blob(f"{folder}/_SUCCESS").upload_from_string(b"")

    def run(self, dag_id: str, **conf: Any) -> Run:
        """Run a DAG by hand to its end."""
        return run_dag(load_dag(dag_id), conf)

    def load(
        self,
        day: date = DAY,
        before_task: Callable[[str], None] = lambda task_id: None,
        when_asked: Callable[[str, str], None] | None = None,
        run_id: str | None = None,
        **conf: Any,
    ) -> Run:
        """Run load_events_daily for the day to its end; the others: see run_dag."""
        dag = load_dag("load_events_daily")
        # Jobs of tests take seconds: look each second, not ever more seldom.
        waiting = dag.get_task("wait_for_load")
        waiting.poke_interval, waiting.exponential_backoff = 1, False
        dag.get_task("wait_for_landing").poke_interval = 1
        looks = 0

        def wait_before_the_second_look(task_id: str) -> None:
            nonlocal looks
            before_task(task_id)
            looks += task_id == "wait_for_load"
            if looks == 2:
                until(lambda: not self.dataflow.list(filter="ACTIVE").get("jobs"), "the load to end", 120)

        given = {"landing_day": str(day), **conf}
        return run_dag(dag, given, wait_before_the_second_look, when_asked=when_asked, run_id=run_id)

    def spanner(self, day: date = DAY) -> list[tuple[int, str, str]]:
        """(product_id, event_date, load_id) of the landing day's rows in Spanner, in order."""
        with self.database.snapshot() as snapshot:
            rows = snapshot.execute_sql(
                "SELECT product_id, CAST(event_date AS STRING), load_id FROM loaded_events "
                f"WHERE landing_day = DATE '{day}' ORDER BY 1, 2, 3"
            )
            return [tuple(row) for row in rows]

    def journeys(self, day: date = DAY) -> list[int]:
        """The products of the landing day's events that Spanner's readers see."""
        with self.database.snapshot() as snapshot:
            rows = snapshot.execute_sql(
                f"SELECT product_id FROM customer_journey WHERE first_landing_day = DATE '{day}' ORDER BY 1"
            )
            return [product_id for (product_id,) in rows]

    def count_spanner(self) -> int:
        """How many rows Spanner holds in all."""
        with self.database.snapshot() as snapshot:
            return next(iter(snapshot.execute_sql("SELECT COUNT(*) FROM loaded_events")))[0]

    def published(self, day: date = DAY) -> list[tuple[int, str, str]]:
        """(product_id, event_date, load_id) of the landing day's rows in events_batch, in order."""
        return self.query(
            "SELECT product_id, CAST(event_date AS STRING), load_id FROM shop_raw.events_batch "
            f"WHERE landing_day = DATE '{day}' ORDER BY 1, 2, 3"
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query of BigQuery."""
        return [tuple(row.values()) for row in self.bigquery.query_and_wait(sql)]

    def audit(self) -> list[tuple[Any, ...]]:
        """The audit rows: day, read, accepted, rejected, duplicates, late, rows in Spanner, in BigQuery."""
        return self.query(
            "SELECT CAST(landing_day AS STRING), read, accepted, rejected, duplicates, late, spanner_rows, "
            "bigquery_rows FROM shop_ops.loads ORDER BY loaded_at"
        )
