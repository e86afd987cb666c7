"""What all DAGs share, in one place."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shopstream.alerts import task_failed

START_DATE = datetime(2019, 10, 1, tzinfo=UTC)
"""The first day of the published data set; DAGs do not catch up, a backfill loads old days."""

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "shopstream",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": task_failed,
}
