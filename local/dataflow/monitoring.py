"""The one figure of Cloud Monitoring's REST API (v3) that keep-alive asks for, measured as well as one can.

A stream's driver tells the oldest message it holds; what a driver held when it died is unacknowledged still.
Else one message is pulled from the emulator and given back at once. That costs this message one of its
delivery attempts, so it is done once until a driver tells again: meanwhile nobody acknowledges, and the
oldest message stays so. What that gets wrong: see docs/adr/0008-desired-state-and-health.md.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.api_core.exceptions import DeadlineExceeded, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1

from local.dataflow import backlog
from local.dataflow.api_error import ApiError

METRIC = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
FILTER = re.compile(
    rf'metric\.type ?= ?"{re.escape(METRIC)}" AND '
    r'resource\.labels\.subscription_id ?= ?"(?P<subscription>[^"]+)"'
)
FRESH = timedelta(seconds=10)
"""A driver that told longer ago that it holds nothing has ended or hangs."""
TIMEOUT_SECONDS = 10


class Monitoring:
    """The age of the oldest unacknowledged message of a subscription. May be asked from any thread."""

    def __init__(self, streams: Callable[[str], Sequence[Path]]) -> None:
        """`streams` returns the folders of all jobs that read a subscription of this full name."""
        self._streams = streams
        self._mutex = threading.Lock()
        self._pulled: dict[str, backlog.Told] = {}

    def time_series(self, project: str, text: str) -> dict[str, Any]:
        """What timeSeries.list answers to a filter: one series with one point, of now.

        Raises:
            ApiError: INVALID_ARGUMENT, the filter is not for this metric of one subscription.
        """
        found = FILTER.fullmatch(text)
        if found is None:
            raise ApiError(
                "INVALID_ARGUMENT",
                f"Only a filter on {METRIC} and one subscription_id is answered here, not {text!r}.",
            )
        subscription = found["subscription"]
        try:
            oldest = self._oldest(f"projects/{project}/subscriptions/{subscription}")
        except NotFound:
            return {}
        now = datetime.now(UTC)
        age_seconds = max(0, int((now - oldest).total_seconds())) if oldest else 0
        moment = now.isoformat().replace("+00:00", "Z")
        labels = {"project_id": project, "subscription_id": subscription}
        return {
            "timeSeries": [
                {
                    "metric": {"type": METRIC},
                    "resource": {"type": "pubsub_subscription", "labels": labels},
                    "metricKind": "GAUGE",
                    "valueType": "INT64",
                    "points": [
                        {
                            "interval": {"startTime": moment, "endTime": moment},
                            "value": {"int64Value": str(age_seconds)},
                        }
                    ],
                }
            ],
            "unit": "s",
        }

    def _oldest(self, subscription: str) -> datetime | None:
        with self._mutex:
            reports = [report for folder in self._streams(subscription) if (report := backlog.read(folder))]
            told = max(reports, key=lambda report: report.at, default=None)
            now = datetime.now(UTC)
            if told and (told.oldest or now - told.at < FRESH):
                return told.oldest
            pulled = self._pulled.get(subscription)
            if pulled is None or (told and told.at > pulled.at):
                if (oldest := _pull_one(subscription)) is None:
                    return None
                pulled = self._pulled[subscription] = backlog.Told(oldest, now)
            return pulled.oldest


def _pull_one(subscription: str) -> datetime | None:
    """The publish time of the message that the emulator delivers next, which is given back; None without."""
    subscriber = _subscriber(os.environ["PUBSUB_EMULATOR_HOST"])
    try:
        answer = subscriber.pull(
            subscription=subscription, max_messages=1, return_immediately=True, timeout=TIMEOUT_SECONDS
        )
    except DeadlineExceeded:
        return None
    if not answer.received_messages:
        return None
    [received] = answer.received_messages
    subscriber.modify_ack_deadline(
        subscription=subscription,
        ack_ids=[received.ack_id],
        ack_deadline_seconds=0,
        timeout=TIMEOUT_SECONDS,
    )
    moment: datetime = received.message.publish_time
    return moment


@functools.cache
def _subscriber(emulator: str) -> pubsub_v1.SubscriberClient:
    return pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())
