"""Lands the live stream: messages of a Pub/Sub subscription to BigQuery, each as an event or as a reject.

Run as `python -m beam_jobs.stream_events --subscription projects/P/subscriptions/S ...`, any Beam runner's
own options behind. On Dataflow it runs on Streaming Engine in at-least-once mode: it keeps no state, and
readers of shop.events see an event once however often it was written.

Each step has a fixed name, so that a running job can be updated to a new version in place.
"""

import argparse
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_jobs.bigquery_sink import BigQuerySink
from beam_jobs.messages import Judged, Message, Reject, judge
from beam_jobs.pseudonyms import add_key_option, pseudonyms_by
from beam_jobs.rejected import STREAM_REJECTS, stream_envelope

BATCH_MESSAGES = 500
BATCH_BYTES = 16 * 2**20
"""A batch ends with the message that brings it to BATCH_MESSAGES or BATCH_BYTES."""

AT_LEAST_ONCE = "streaming_mode_at_least_once"
REDUCED_RAW_BYTES = 1024
REDUCED_DETAIL_CHARS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to land, and where: the job's options. Tables are PROJECT:DATASET.TABLE."""

    subscription: str
    events_table: str
    rejected_table: str
    pseudonym_key: str | None = None


class RejectRefused(RuntimeError):
    """BigQuery refuses a reject even in its shortest form; its message must not be acknowledged."""


def main() -> None:
    """Run the stream until it is drained, cancelled or fails."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # At INFO, Beam tells of each annotation that it does not turn into a type hint.
    logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)
    run().wait_until_finish()


def run(argv: list[str] | None = None) -> PipelineResult:
    """Start the stream that the options (default: the command line's) describe.

    Raises:
        SystemExit: an option is missing or malformed; the message on stderr says which.
    """
    stream, beam_arguments = parse_options(argv)
    pipeline = beam.Pipeline(options=streaming_options(beam_arguments))
    build(pipeline, stream)
    return pipeline.run()


def parse_options(argv: list[str] | None = None) -> tuple[StreamOptions, list[str]]:
    """Split the arguments into this job's options and those left for Beam and its runner."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add(
        "--subscription",
        required=True,
        type=_subscription,
        help="The subscription to read, projects/PROJECT/subscriptions/NAME.",
    )
    add("--events_table", required=True, type=_table, help="The table for events, PROJECT:DATASET.TABLE.")
    add("--rejected_table", required=True, type=_table, help="The table for rejects, PROJECT:DATASET.TABLE.")
    add_key_option(parser)
    options, beam_arguments = parser.parse_known_args(argv)
    return StreamOptions(**vars(options)), beam_arguments


def streaming_options(beam_arguments: Sequence[str]) -> PipelineOptions:
    """Return Beam's options: streaming, and on Dataflow Streaming Engine, by default at least once."""
    # On Dataflow Beam would send what __main__ holds to workers, which import this module from their image.
    options = PipelineOptions(list(beam_arguments), save_main_session=False)
    options.view_as(StandardOptions).streaming = True
    cloud = options.view_as(GoogleCloudOptions)
    cloud.enable_streaming_engine = True
    services = cloud.dataflow_service_options or []
    if not any(service.startswith("streaming_mode_") for service in services):
        cloud.dataflow_service_options = [*services, AT_LEAST_ONCE]
    return options


def build(pipeline: beam.Pipeline, stream: StreamOptions) -> None:
    """Add the stream's steps to a pipeline."""
    messages = (
        pipeline
        | "Read messages" >> ReadFromPubSub(subscription=stream.subscription, with_attributes=True)
        | "Take messages" >> beam.Map(take_message)
    )
    land(messages, stream)


def land(messages: beam.PCollection, stream: StreamOptions) -> None:
    """Add the steps that land messages, of type Message."""
    judged = messages | "Parse and validate" >> beam.ParDo(ParseAndValidate(stream.pseudonym_key))
    rejects = judged | "Write events" >> beam.ParDo(WriteEvents(stream.events_table))
    mask = stream.pseudonym_key is not None
    _ = rejects | "Write rejects" >> beam.ParDo(WriteRejects(stream.rejected_table, mask))


def take_message(message: PubsubMessage) -> Message:
    """Take over what Beam read."""
    return Message(message.data or b"", message.message_id, message.publish_time, message.attributes)


class ParseAndValidate(beam.DoFn):
    """Judges the messages of a bundle, a batch at a time."""

    def __init__(self, pseudonym_key: str | None = None) -> None:
        self._pseudonym_key = pseudonym_key
        self._counters = {
            name: Metrics.counter("stream_events", name) for name in ("read", "accepted", "rejected")
        }

    def start_bundle(self) -> None:
        self._batch: list[Message] = []
        self._batch_bytes = 0

    def process(self, message: Message) -> Iterator[Judged]:
        self._batch.append(message)
        self._batch_bytes += len(message.data)
        if len(self._batch) >= BATCH_MESSAGES or self._batch_bytes >= BATCH_BYTES:
            yield self._judge()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._batch:
            yield GlobalWindows.windowed_value_at_end_of_window(self._judge())

    def _judge(self) -> Judged:
        judged = judge(self._batch, pseudonyms_by(self._pseudonym_key))
        self._counters["read"].inc(len(self._batch))
        self._counters["accepted"].inc(len(judged.messages))
        self._counters["rejected"].inc(len(judged.rejects))
        self.start_bundle()
        return judged


class WriteEvents(beam.DoFn):
    """Writes the events of a batch; yields its rejects, with those of the events that BigQuery refused."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._refused = Metrics.counter("stream_events", "refused_by_bigquery")

    def setup(self) -> None:
        self._sink = BigQuerySink(self._table)

    def process(self, judged: Judged) -> Iterator[list[Reject]]:
        refused = write_events(self._sink, judged)
        self._refused.inc(len(refused))
        yield judged.rejects + refused


class WriteRejects(beam.DoFn):
    """Writes rejects, masked if nothing of a customer may be in them."""

    def __init__(self, table: str, mask: bool = False) -> None:
        self._table = table
        self._mask = mask

    def setup(self) -> None:
        self._sink = BigQuerySink(self._table)

    def process(self, rejects: list[Reject]) -> None:
        write_rejects(self._sink, rejects, self._mask)


def write_events(sink: BigQuerySink, judged: Judged) -> list[Reject]:
    """Write events; return those that BigQuery refused as rejects.

    Raises:
        BigQueryTableError: the table is missing, or the job may not write to it.
        BigQueryUnavailable: BigQuery took some rows not in time.
    """
    return [
        Reject(judged.messages[refusal.row], "refused_by_bigquery", refusal.detail)
        for refusal in sink.append(judged.events)
    ]


def write_rejects(sink: BigQuerySink, rejects: Sequence[Reject], mask: bool = False) -> None:
    """Write rejects; with `mask` without anything of a customer.

    A reject that BigQuery refuses is written once more without attributes and with the first
    REDUCED_RAW_BYTES of its message.

    Raises:
        RejectRefused: BigQuery refuses that too.
        BigQueryTableError: the table is missing, or the job may not write to it.
        BigQueryUnavailable: BigQuery took some rows not in time.
    """
    now = datetime.now(UTC)
    rows = [stream_envelope(reject, rejected_at=now, mask=mask) for reject in rejects]
    ids = [reject.message.message_id for reject in rejects]
    refusals = sink.append(pa.Table.from_pylist(rows, STREAM_REJECTS))
    if not refusals:
        return
    reduced = []
    for row, why in refusals:
        _log.warning("BigQuery refused the reject of message %s, which is now shortened: %s", ids[row], why)
        reject = rejects[row]
        detail = f"{reject.detail} (Shortened, since BigQuery refused the whole: {why})"
        reduced.append(
            stream_envelope(
                reject._replace(detail=detail),
                rejected_at=now,
                raw_bytes=REDUCED_RAW_BYTES,
                detail_chars=REDUCED_DETAIL_CHARS,
                with_attributes=False,
                mask=mask,
            )
        )
    again = sink.append(pa.Table.from_pylist(reduced, STREAM_REJECTS))
    if again:
        message_id = ids[refusals[again[0].row].row]
        raise RejectRefused(
            f"BigQuery refuses {len(again)} rejects even when shortened, the first of message {message_id}: "
            f"{again[0].detail} They stay unacknowledged. Compare the table with "
            "sql/bigquery/shop_raw/rejected_events_stream and run the DAG apply_schemas."
        )


def _subscription(text: str) -> str:
    if not re.fullmatch(r"projects/[^/]+/subscriptions/[^/]+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a subscription such as projects/PROJECT/subscriptions/NAME"
        )
    return text


def _table(text: str) -> str:
    if not re.fullmatch(r".+:\w+\.\w+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a table such as PROJECT:DATASET.TABLE")
    return text


if __name__ == "__main__":
    # Under its real name, so that Beam's workers import this module's functions instead of unpickling copies.
    from beam_jobs import stream_events

    stream_events.main()
