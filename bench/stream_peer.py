"""The peer of the stream's driver in bench_stream: the shortest program that puts messages into BigQuery.

It takes the driver's options, knows no bad message, and ends by SIGUSR1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal

from google.api_core.exceptions import DeadlineExceeded
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, pubsub_v1

PULL_MESSAGES = 1000
PULL_SECONDS = 4.0


def main() -> None:
    """Land messages for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--subscription", required=True)
    parser.add_argument("--events_table", required=True)
    options, _ = parser.parse_known_args()
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
    project = options.events_table.partition(":")[0]
    client = bigquery.Client(project=project, credentials=AnonymousCredentials())
    subscriber = pubsub_v1.SubscriberClient()
    while True:
        try:
            pulled = subscriber.pull(
                subscription=options.subscription,
                max_messages=PULL_MESSAGES,
                timeout=PULL_SECONDS,
                retry=None,
            )
        except DeadlineExceeded:
            continue
        received = pulled.received_messages
        if not received:
            continue
        errors = client.insert_rows_json(
            f"{project}.shop_raw.peer", [json.loads(one.message.data) for one in received]
        )
        if errors:
            raise ValueError(errors)
        subscriber.acknowledge(subscription=options.subscription, ack_ids=[one.ack_id for one in received])


if __name__ == "__main__":
    main()
