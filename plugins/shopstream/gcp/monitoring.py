"""What the DAGs ask of Cloud Monitoring: how long Pub/Sub messages have waited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from googleapiclient.discovery import build

from shopstream.settings import settings

if TYPE_CHECKING:
    from google.api_core.client_options import ClientOptions

OLDEST_UNACKED = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
"""Seconds; sampled once a minute, and shown up to four minutes later."""

LOOKBACK = timedelta(minutes=10)


class MonitoringHook(GoogleBaseHook):
    """Cloud Monitoring's REST API (v3) at the endpoint of the settings."""

    def get_client_options(self, api_endpoint_override: str | None = None) -> ClientOptions:
        """The endpoint of the settings, or Google's own."""
        return super().get_client_options(api_endpoint_override or settings().monitoring_endpoint)

    def get_conn(self) -> Any:
        """A client of the API, made from the discovery document that the client library holds."""
        return build(
            "monitoring",
            "v3",
            http=self._authorize(),
            cache_discovery=False,
            client_options=self.get_client_options(),
        )

    def oldest_unacked_seconds(self, subscription: str) -> float | None:
        """The newest age, in seconds, of the subscription's oldest unacknowledged message.

        0 if all is acknowledged; None if Monitoring has no figure of the last LOOKBACK, as for a subscription
        that is new or does not exist.

        Raises:
            HttpError: Monitoring refuses to answer.
        """
        now = datetime.now(UTC)
        series = self.get_conn().projects().timeSeries()
        answer = series.list(
            name=f"projects/{settings().project}",
            filter=f'metric.type = "{OLDEST_UNACKED}" AND resource.labels.subscription_id = "{subscription}"',
            interval_startTime=(now - LOOKBACK).isoformat(),
            interval_endTime=now.isoformat(),
            view="FULL",
        ).execute(num_retries=self.num_retries)
        # Points come newest first.
        ages = [
            points[0]["value"]["int64Value"]
            for one in answer.get("timeSeries", [])
            if (points := one.get("points"))
        ]
        return max(map(float, ages), default=None)
