"""Is a load complete? Its counters add up, its rejected lines are kept, and both stores hold what it read.

Spanner and BigQuery are counted; what the pipeline says of itself is only the figure they are held against.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.manifest import Manifest
from shopstream.load.held import Held
from shopstream.load.place import place
from shopstream.retries import Refused

if TYPE_CHECKING:
    from google.cloud.storage import Client

REASONS_SHOWN = 5
RAW_CHARS_SHOWN = 160
PERSONAL = {"user_id", "user_session"}
"""The columns that tell of a customer."""
_DIGIT, _LETTER = re.compile(r"\d"), re.compile(r"[^\W\d_]")
_QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)


class LoadRefused(Refused):
    """A load is not what it must be."""


def read_manifest(client: Client, uri: str) -> Manifest:
    """Read a load's manifest.

    Raises:
        LoadRefused: there is none, or it is none of this version.
    """
    from google.cloud.exceptions import NotFound
    from google.cloud.storage import Blob

    try:
        return Manifest.from_json(Blob.from_uri(uri, client=client).download_as_bytes())
    except ValueError as error:
        raise LoadRefused(f"{uri}: {error}. Load the day again.") from error
    except NotFound:
        raise LoadRefused(
            f"{uri} does not exist, though the load's job ended well; its counters are written last. "
            "Look at the job's log, then clear the run from launch_load on."
        ) from None


def check_counters(manifest: Manifest) -> None:
    """Check that no line was lost or invented between reading and writing.

    Raises:
        LoadRefused: read is not accepted + rejected, or accepted is not distinct + duplicates.
    """
    for whole, first, second in (("read", "accepted", "rejected"), ("accepted", "distinct", "duplicates")):
        total, one, other = (getattr(manifest, name) for name in (whole, first, second))
        if total != one + other:
            raise LoadRefused(
                f"{_name(manifest)}: {whole} is {total:,}, but {first} + {second} = "
                f"{one:,} + {other:,} = {one + other:,}. "
                "The pipeline lost or invented lines, so the day is not published. Run the load again; if it "
                "comes again, it is a bug of beam_jobs."
            )


def rejected_reasons(client: Client, manifest: Manifest) -> str:
    """Return `describe_rejected` with a line for each of the most frequent reasons, from the load's files."""
    samples = _rejected_samples(client, manifest)
    for sample in samples.values():
        raw = base64.b64decode(sample["raw"] or "")
        sample["place"] = place(client, sample["file"], sample["byte_offset"], raw)
    return describe_rejected(manifest, samples)


def check_accepted(manifest: Manifest, reasons: str) -> None:
    """Check that some line was accepted, if there was any; `reasons` is what the message tells of the others.

    Raises:
        LoadRefused: every line was rejected.
    """
    if manifest.rejected and not manifest.accepted:
        raise LoadRefused(
            f"{_name(manifest)}: every one of its {manifest.read:,} lines was rejected:\n{reasons}\n"
            "The day is not published, and nothing of it is in Spanner. Its lines are in "
            "shop.rejected_events. Land files as the contract wants them, then run load_events_daily for "
            "the day again."
        )


def describe_rejected(manifest: Manifest, samples: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line of text for each of the most frequent reasons: its count, and its line in `samples`.

    Of the others a last line names each with its count. Nothing in it tells of a customer: of a line it shows
    the shape. `samples` are rejected lines as the load writes them, and where each is as `place`.
    """
    reasons = _by_frequency(manifest)
    told = [
        f"  {reason}: {count:,}{_describe(samples.get(reason))}" for reason, count in reasons[:REASONS_SHOWN]
    ]
    if others := reasons[REASONS_SHOWN:]:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in others)
        told.append(f"  and {len(others)} more: {counts}")
    return "\n".join(told)


def check_rejected_kept(manifest: Manifest, kept: Mapping[str, int]) -> None:
    """Check that rejected_events_batch holds each rejected line of the load; `kept` are its lines, by load.

    Raises:
        LoadRefused: it holds more or fewer, or lines of another load of the day.
    """
    if {load_id: lines for load_id, lines in kept.items() if lines} != (
        {manifest.load_id: manifest.rejected} if manifest.rejected else {}
    ):
        raise LoadRefused(
            f"{_name(manifest)}: {manifest.rejected:,} lines were rejected, but rejected_events_batch holds "
            f"of the landing day, by load, {dict(kept)}. Run load_events_daily for the day again."
        )


def check_newest(client: Client, uri: str, active_jobs: Sequence[Mapping[str, Any]]) -> None:
    """Check that no other load of the landing day has ended later or is running, which this one would undo.

    Args:
        uri: this load's manifest, loads/<day>/<load_id>.json.
        active_jobs: the day's Dataflow jobs that have not ended, as jobs.list shows them.

    Raises:
        LoadRefused: there is one.
    """
    advice = "That load goes on by itself; if its run fails, run load_events_daily for the day again."
    if active_jobs:
        raise LoadRefused(f"{uri}: Dataflow job {active_jobs[0]['id']} loads the same day anew. {advice}")
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    manifests = client.list_blobs(bucket, prefix=f"{name.rpartition('/')[0]}/")
    newest = max(blob.name for blob in manifests)
    if newest != name:
        raise LoadRefused(f"{uri}: gs://{bucket}/{newest} is a newer load of the same day. {advice}")


def of_this_load(manifest: Manifest, counts: Mapping[str, Held]) -> Held:
    """Return what BigQuery holds of the load, which must be all it holds of the landing day.

    Raises:
        LoadRefused: it holds rows of another load.
    """
    if others := sorted(counts.keys() - {manifest.load_id}):
        raise LoadRefused(
            f"{_name(manifest)}: BigQuery holds rows of the landing day that are of "
            f"{'a newer load' if others[-1] > manifest.load_id else 'an older load'}, {others[-1]}. "
            "If that load's run does not go on by itself, run load_events_daily for the day again."
        )
    return counts.get(manifest.load_id, Held.nothing())


def check_stores(manifest: Manifest, spanner: Held, bigquery: Held) -> None:
    """Check that both stores hold each distinct event of the load, once, and the same ones.

    Raises:
        LoadRefused: one of them holds more, fewer or others.
    """
    distinct = manifest.distinct
    advice = (
        "Look whether another load of this day ran at the same time, then run load_events_daily for it again."
    )
    if not spanner.events == distinct == bigquery.events:
        raise LoadRefused(
            f"{_name(manifest)}: the load has {distinct:,} distinct events, but Spanner holds "
            f"{spanner.events:,} ({spanner.events - distinct:+,}) of its rows and BigQuery "
            f"{bigquery.events:,} ({bigquery.events - distinct:+,}); all three must be equal. {advice}"
        )
    if spanner != bigquery:
        raise LoadRefused(
            f"{_name(manifest)}: Spanner and BigQuery hold {distinct:,} events each, but not the same ones: "
            f"the checksums of their event ids are {spanner.checksum} and {bigquery.checksum}. {advice}"
        )


def _by_frequency(manifest: Manifest) -> list[tuple[str, int]]:
    return sorted(manifest.rejected_by_reason.items(), key=lambda item: (-item[1], item[0]))


def _rejected_samples(client: Client, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the first rejected line of each of the most frequent reasons, from the load's JSONL files."""
    from google.cloud.storage import Blob

    wanted = {reason for reason, _ in _by_frequency(manifest)[:REASONS_SHOWN]}
    samples: dict[str, dict[str, Any]] = {}
    for uri in manifest.rejected_files:
        with Blob.from_uri(uri, client=client).open("rt", encoding="utf-8", chunk_size=2**20) as lines:
            for line in lines:
                rejected = json.loads(line)
                if rejected["reason"] in wanted:
                    samples.setdefault(rejected["reason"], rejected)
                if len(samples) == len(wanted):
                    return samples
    return samples


def _describe(sample: Mapping[str, Any] | None) -> str:
    if sample is None:
        return ""
    raw = base64.b64decode(sample["raw"] or "").decode(errors="replace")
    return (
        f", such as {sample['place']}: {_shown_detail(sample['detail'])} "
        # Its columns may stand in any order.
        f"The line is {shape(raw)[:RAW_CHARS_SHOWN]!r}"
    )


def _shown_detail(detail: str) -> str:
    """Why a line was rejected, with the value that it quotes if that is of a column that tells of nobody."""
    if detail.partition(" is ")[0] in set(COLUMN_NAMES) - PERSONAL:
        return detail
    return _QUOTED.sub(lambda quoted: shape(quoted[0]), detail)


def shape(text: str) -> str:
    """Each digit as 9 and each letter as x: what logs, alerts and questions may show of a customer's line."""
    return _LETTER.sub("x", _DIGIT.sub("9", text))


def _name(manifest: Manifest) -> str:
    return f"landing day {manifest.landing_day}, load {manifest.load_id}"
