"""What Terraform makes in the cloud, made in the running emulators; safe to repeat.

    python -m local.stack.provision

It reads the same environment as shopstream and Google's clients do.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path

from google.api_core.exceptions import AlreadyExists, Conflict
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, spanner, storage

from local.dataflow import spec
from local.root import ROOT
from shopstream.settings import Settings, settings

LOCAL_MODULES = {"stream_events": "local.dataflow.stream_driver"}
"""What runs a template instead of its own pipeline: Beam has no local runner that is fit for this stream."""
ACK_DEADLINE_SECONDS = 20
"""So long after a job's death what it held is delivered again; Dataflow and the local driver extend it."""
TIMEOUT_SECONDS = 30


def provision(env: Settings) -> None:
    """Make the bucket and templates, an empty Spanner database, topic and subscription, and a key."""
    _storage(env)
    _spanner(env)
    _pubsub(env)
    _key(env)


def _storage(env: Settings) -> None:
    client = storage.Client(project=env.project, credentials=AnonymousCredentials())
    with suppress(Conflict):
        client.create_bucket(env.bucket)
    bucket = client.bucket(env.bucket)
    for metadata in sorted((ROOT / "beam_jobs" / "templates").glob("*.json")):
        module = LOCAL_MODULES.get(metadata.stem, f"beam_jobs.{metadata.stem}")
        template = spec(json.loads(metadata.read_text()), module)
        text = json.dumps(template, indent=2)
        blob = bucket.blob(f"templates/{env.template_version}/{metadata.name}")
        if not blob.exists() or blob.download_as_text() != text:  # a launch may be reading it
            blob.upload_from_string(text, content_type="application/json")


def _spanner(env: Settings) -> None:
    client = spanner.Client(project=env.project, credentials=AnonymousCredentials())
    instance = client.instance(
        env.spanner_instance,
        configuration_name=f"projects/{env.project}/instanceConfigs/emulator-config",
        node_count=1,
    )
    with suppress(AlreadyExists):
        instance.create().result(TIMEOUT_SECONDS)
    with suppress(AlreadyExists):
        instance.database(env.spanner_database).create().result(TIMEOUT_SECONDS)


def _key(env: Settings) -> None:
    """Secret Manager has no emulator: here the key of forget_customer lies in a file."""
    if env.forget_key and not (file := Path(env.forget_key)).exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))


def _pubsub(env: Settings) -> None:
    publisher = pubsub_v1.PublisherClient(credentials=AnonymousCredentials())
    subscriber = pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())
    topic = publisher.topic_path(env.project, env.topic)
    with suppress(AlreadyExists):
        publisher.create_topic(name=topic, timeout=TIMEOUT_SECONDS)
    with suppress(AlreadyExists):
        # No dead letter topic: Dataflow supports none, and a good message would be moved to it after a few
        # deaths of the job.
        subscriber.create_subscription(
            request={
                "name": subscriber.subscription_path(env.project, env.subscription),
                "topic": topic,
                "ack_deadline_seconds": ACK_DEADLINE_SECONDS,
            },
            timeout=TIMEOUT_SECONDS,
        )


if __name__ == "__main__":
    provision(settings())
