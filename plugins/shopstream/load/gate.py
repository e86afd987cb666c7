"""The gate of a load: what nobody should publish is refused, and what somebody may publish is asked about."""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the steps import it.
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from shopstream.gcp.clients import bigquery_client, storage_client
from shopstream.layout import REJECTED
from shopstream.lineage import lineage
from shopstream.load import checks
from shopstream.load.launch import Load, newest_manifest
from shopstream.questions import NoAnswer, NoReason, Question
from shopstream.retries import Refused
from shopstream.rounding import percent
from shopstream.settings import settings
from shopstream.tables.names import REJECTED_EVENTS_BATCH

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud.bigquery import Client

    from beam_jobs.manifest import Manifest

PUBLISH, REFUSE = "Publish anyway", "Refuse"
USUAL_DAYS = 28
"""What is usual is told from the loads of so many days before."""

_UNPUBLISHED = (
    "The day is not published: readers see it as it was. Its rejected lines are in shop.rejected_events."
)
_CORRECT = "Correct the landing files and trigger load_events_daily for the day."
_ANSWER_AGAIN = (
    "The files need no change: trigger load_events_daily for the day again, and answer with a reason."
)
_ANSWER = (
    "Nobody has judged the lines: trigger load_events_daily for the day again, and answer in the run's "
    "Required Actions."
)


class Gate(Question):
    """Keeps the rejected lines in BigQuery; refuses a load that lost some; asks about one that rejected many.

    Returns an Approval as texts, or {} for a load that needed none.
    """

    template_fields: Sequence[str] = ("load",)
    yes, no = PUBLISH, REFUSE

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        """Make the task; `load` is what WaitForLoad returns."""
        super().__init__(**lineage(REJECTED_EVENTS_BATCH, reads=[REJECTED]), **kwargs)
        self.load = load

    def execute(self, context: Context) -> dict[str, str]:
        """Judge the load, and ask if its share of rejected lines is above SHOPSTREAM_MAX_REJECTED_SHARE.

        Raises:
            LoadRefused: a newer load of the day has begun, the counters do not add up, or all was rejected.
            Refused: Airflow would show the question of an earlier load of this run.
            TaskAwaitingInput: somebody is asked.
        """
        from shopstream.load.publish import count_rejected, load_rejected

        storage, client = storage_client(), bigquery_client()
        manifest = newest_manifest(storage, Load.from_xcom(self.load))
        checks.check_counters(manifest)
        load_rejected(client, manifest)
        checks.check_rejected_kept(manifest, count_rejected(client, manifest.landing_day))
        reasons = checks.rejected_reasons(storage, manifest)
        self.log.info(
            "Landing day %s, load %s: of %s lines %s were accepted and %s rejected.\n%s",
            *(manifest.landing_day, manifest.load_id),
            *(f"{count:,}" for count in (manifest.read, manifest.accepted, manifest.rejected)),
            reasons,
        )
        checks.check_accepted(manifest, reasons)
        if manifest.rejected <= (most := settings().max_rejected_share) * manifest.read:
            share = manifest.rejected / manifest.read if manifest.read else 0
            self.log.info("%.2f%% were rejected; up to %.2f%% nobody is asked.", 100 * share, 100 * most)
            return {}
        self.ask(
            context,
            _subject(manifest),
            _body(client, manifest, reasons),
            "Why the day is published or refused, such as: the lines are of a test shop. If it is published, "
            "the reason is kept in shop_ops.loads beside your name.",
            f" No answer refuses the day.\n{reasons}",
        )
        raise AssertionError("a question leaves by an exception")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Act as the answer says.

        Raises:
            LoadRefused: the answer refuses the day, gives no reason, or did not come in time.
        """
        load = Load.from_xcom(self.load)
        name = f"landing day {load.landing_day}, load {load.load_id}"
        try:
            approval = self.approval(event)
        except Refused as refused:
            remedy = {NoReason: _ANSWER_AGAIN, NoAnswer: _ANSWER}.get(type(refused), _CORRECT)
            raise checks.LoadRefused(f"{name}: {refused} {_UNPUBLISHED} {remedy}") from None
        self.log.info("%s: %s has it published: %s.", name, approval.approved_by, approval.reason.rstrip("."))
        return asdict(approval)


def _subject(manifest: Manifest) -> str:
    return (
        f"Landing day {manifest.landing_day}, load {manifest.load_id}: {manifest.rejected:,} of "
        f"{manifest.read:,} lines ({percent(manifest.rejected / manifest.read, 2)}) were rejected."
    )


def _body(client: Client, manifest: Manifest, reasons: str) -> str:
    """The question in Markdown; what comes from the landing files is code, and so no markup."""
    counts = ("read", "accepted", "duplicates", "late", "rejected")
    figures = " | ".join(f"{getattr(manifest, name):,}" for name in counts)
    # Not one block of code: Airflow's page shows its lines as one.
    listed = "\n".join(f"- {_code(line.strip())}" for line in reasons.splitlines())
    return f"""\
Up to {percent(settings().max_rejected_share, 2)} (`SHOPSTREAM_MAX_REJECTED_SHARE`) is published without a \
question. {_usual(client, manifest)}

| {" | ".join(counts)} |
|{" --- |" * len(counts)}
| {figures} |

The most frequent reasons; of the lines only the shape is shown (digits as 9, letters as x):

{listed}

All of them are in `shop.rejected_events`, whatever the answer. **{PUBLISH}** publishes the accepted lines \
and gives the others up. **{REFUSE}**, or no answer in time, leaves the day as it was \
published before: if its files are wrong, correct them, and trigger load_events_daily for the day again."""


def _code(text: str) -> str:
    """The text as code in a line of Markdown, whatever it holds; it may be broken after a comma."""
    # A line of events has no spaces: Airflow's page would be as wide as it, and the answers out of sight.
    text = re.sub(r",(?=\S)", ",\N{ZERO WIDTH SPACE}", text)
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}"


def _usual(client: Client, manifest: Manifest) -> str:
    from shopstream.tables.published import rejected_shares

    day = manifest.landing_day
    shares = rejected_shares(client, day - timedelta(days=USUAL_DAYS), day - timedelta(days=1))
    if not shares:
        return f"None of the {USUAL_DAYS} days before is loaded, so what is usual is not known."
    return (
        f"Usual is {percent(median(shares), 2)}: the median of the {USUAL_DAYS} days before, as far as they "
        f"are loaded ({len(shares)}). The highest had {percent(shares[-1], 2)}."
    )
