"""The tasks of replay_rejected_events: judge kept rejects by today's contract, and send what passes again."""

# google.cloud.bigquery and pyarrow take seconds to import, which parsing a DAG file should not: so the tasks
# import them.
from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from beam_jobs.contract import REASONS
from shopstream.days import NOTHING_CHANGED, is_dry_run, summary_days
from shopstream.gcp.clients import bigquery_client, storage_client
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.names import BATCH, STREAM

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

    from shopstream.replay.judge import Tally
    from shopstream.replay.kept import Asked
    from shopstream.stream.publish import Sender

ALL_REASONS = "all"
CHOICES = [ALL_REASONS, *REASONS]
PATHS = [BATCH, STREAM]
REPLAY_OF = "replay_of"
"""The attribute of a message that was published again: the id of the rejected one."""

log = logging.getLogger(__name__)


def replay(**context: Any) -> list[dict[str, Any]]:
    """Judge the rejects that the run asks for, and tell what came of it; unless it is dry, send what passes.

    Returns:
        The runs of load_events_daily to trigger: {"trigger_run_id", "conf"} each.

    Raises:
        Refused: the days cannot be meant, or the stream that runs is of another version than this contract.
        PublishFailed: Pub/Sub does not take the messages; those it took are written down.
    """
    from shopstream.replay.judge import Tally
    from shopstream.replay.kept import Asked, open_days

    params, run = context["params"], context["dag_run"]
    reason = None if params["reason"] == ALL_REASONS else params["reason"]
    asked = Asked(params["path"], reason, run.run_id, run.triggering_user_name)
    is_dry = is_dry_run(context)
    days = summary_days(context, lambda since, until: ())
    client = bigquery_client()
    sender = None
    if asked.source == STREAM and not is_dry:
        _refuse_other_version()
        sender = _sender()
    every, loads = Tally(), list[dict[str, Any]]()
    for day in open_days(client, asked, days[0], days[-1]):
        if asked.source == STREAM:
            tally = _replay_messages(client, asked, day, sender)
        else:
            tally, load = _replay_lines(client, asked, day, is_dry)
            loads += load
        if len(days) > 1:
            log.info("%s: %s", day, tally.told())
        every.merge(tally)
    log.info("%s, %s to %s, %s: %s", asked.source, days[0], days[-1], params["reason"], every.told())
    log.info("%s", _next(asked, is_dry, every, loads))
    return loads


def _next(asked: Asked, is_dry: bool, every: Tally, loads: Sequence[Mapping[str, Any]]) -> str:
    if not every.judged:
        none = "There is no reject of these days that a replay has not sent: shop_ops.replays tells of those."
        return f"Rejects judged: 0. {none}"
    if is_dry:
        return f"Would pass now: {every.passed:,} of {every.judged:,}. {NOTHING_CHANGED}"
    if asked.source == STREAM:
        return f"Published again: {every.passed:,} of {every.judged:,} messages. The others stay as they are."
    days = ", ".join(load["conf"]["landing_day"] for load in loads)
    return f"Days loaded anew by load_events_daily: {len(loads)}, {days or 'since nothing would pass'}."


def _replay_messages(client: Client, asked: Asked, day: date, sender: Sender | None) -> Tally:
    """Judge a day's messages; with a sender, publish those that pass, and write down which.

    Published before it is written down: a task that is killed between the two publishes some twice, which
    shop.events shows once, and loses none.
    """
    from shopstream.replay.judge import PASSES, Tally
    from shopstream.replay.kept import judge_day, write_replay

    every = Tally()
    for kept, verdicts in judge_day(client, storage_client(), asked, day):
        part = Tally()
        part.add(kept, verdicts)
        every.merge(part)
        if not sender or not part.passed:
            continue
        passing = [reject for reject, verdict in zip(kept, verdicts, strict=True) if verdict == PASSES]
        before = sender.done.published
        try:
            for reject in passing:
                sender.take(-math.inf, reject.raw, {REPLAY_OF: reject.closing})
            sender.send()
        finally:
            # Batches are acknowledged in their order.
            if sent := passing[: sender.done.published - before]:
                write_replay(client, asked, day, part, [reject.closing for reject in sent])
    return every


def _replay_lines(
    client: Client, asked: Asked, day: date, is_dry: bool
) -> tuple[Tally, list[dict[str, Any]]]:
    """Judge a landing day's lines; unless it is dry, write down that the day is loaded anew if any passes."""
    from shopstream.replay.judge import Tally
    from shopstream.replay.kept import judge_day, write_replay

    tally, load_ids = Tally(), set[str]()
    for kept, verdicts in judge_day(client, storage_client(), asked, day):
        tally.add(kept, verdicts)
        load_ids.update(reject.closing for reject in kept)
    if is_dry or not tally.passed:
        return tally, []
    run_id = f"replay__{max(load_ids)}"
    write_replay(client, asked, day, tally, sorted(load_ids), run_id)
    return tally, [{"trigger_run_id": run_id, "conf": {"landing_day": day.isoformat()}}]


def _sender() -> Sender:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    from shopstream.stream.publish import Sender

    topic = f"projects/{settings().project}/topics/{settings().topic}"
    return Sender(topic, GoogleBaseHook().get_credentials())


def _refuse_other_version() -> None:
    """Check that the stream which runs has this contract, or it would reject the messages again.

    Raises:
        Refused: it is of another version.
    """
    from shopstream.gcp.dataflow import DataflowHook
    from shopstream.stream.jobs import active_jobs

    ours = settings().template_version
    if others := [str(job) for job in active_jobs(DataflowHook()) if job.version != ours]:
        raise Refused(
            f"the stream that runs is {', '.join(others)}, but this contract is of version {ours}: it may "
            "reject the messages again. Wait until keep_stream_alive has replaced it, or unpin its version; "
            "then trigger this again."
        )
