"""The gate of a load: what nobody should publish is refused, and what somebody may publish is asked about.

A question waits in Airflow's state `awaiting_input`, which takes no worker, no triggerer and no pool slot.
"""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the steps import it.
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from shopstream.alerts import answer_wanted
from shopstream.gcp.clients import bigquery_client, storage_client
from shopstream.load import checks
from shopstream.load.launch import Load, newest_manifest
from shopstream.questions import shown_subject
from shopstream.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud.bigquery import Client

    from beam_jobs.manifest import Manifest

PUBLISH, REFUSE = "Publish anyway", "Refuse"
ANSWER_WITHIN = timedelta(hours=24)
USUAL_DAYS = 28
"""What is usual is told from the loads of so many days before."""
MAX_REASON_CHARS = 1000

_NEXT = (
    "The day is not published: readers see it as it was. Its rejected lines are in shop.rejected_events. "
    "Correct the landing files and trigger load_events_daily for the day."
)


@dataclass(frozen=True, slots=True)
class Approval:
    """Who had a day published in spite of its rejected lines, by the name in Airflow, and why."""

    approved_by: str
    reason: str


class Gate(HITLOperator):
    """Keeps the rejected lines in BigQuery; refuses a load that lost some; asks about one that rejected many.

    Returns an Approval as texts, or {} for a load that needed none.
    """

    template_fields: Sequence[str] = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        """Make the task; `load` is what WaitForLoad returns."""
        super().__init__(
            subject="",
            options=[PUBLISH, REFUSE],
            defaults=[REFUSE],
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )
        self.load = load

    def execute(self, context: Context) -> dict[str, str]:
        """Judge the load, and ask if its share of rejected lines is above SHOPSTREAM_MAX_REJECTED_SHARE.

        Raises:
            LoadRefused: a newer load of the day has begun, the counters do not add up, all was rejected, or
                Airflow would show the question of an earlier load of this run.
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
        if manifest.rejected <= settings().max_rejected_share * manifest.read:
            return {}
        self.subject = _subject(manifest)
        self.body = _body(client, manifest, reasons)
        # Not before: Airflow holds a task's parameters against their schema when it starts.
        self.params = ParamsDict({"reason": _reason()})
        if (shown := shown_subject(self, context)) != self.subject:
            raise checks.LoadRefused(
                f"{self.subject} But in this run Airflow would show an earlier question: {shown!r} "
                "Trigger load_events_daily for the day: that run asks about its own load."
            )
        answer_wanted(
            context,
            f"{self.subject} Answer in the run's Required Actions within {_hours(ANSWER_WITHIN)}; no answer "
            f"refuses the day.\n{reasons}",
        )
        super().execute(context)
        raise AssertionError("HITLOperator.execute leaves by an exception")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Act as the answer says.

        Raises:
            LoadRefused: the answer refuses the day, gives no reason, or did not come in time.
        """
        if "error" in event and event["error_type"] != "timeout":
            self.process_trigger_event_error(event)
        load = Load.from_xcom(self.load)
        name = f"landing day {load.landing_day}, load {load.load_id}"
        user = event.get("responded_by_user")
        if not user:
            raise checks.LoadRefused(f"{name}: nobody answered within {_hours(ANSWER_WITHIN)}. {_NEXT}")
        reason = str(event["params_input"].get("reason") or "").strip()
        if event["chosen_options"] != [PUBLISH]:
            raise checks.LoadRefused(
                f"{name}: {user['name']} refused it: {reason or 'no reason given'}. {_NEXT}"
            )
        if not 1 <= len(reason) <= MAX_REASON_CHARS:
            raise checks.LoadRefused(
                f"{name}: {user['name']} answered {PUBLISH!r} with a reason of {len(reason)} characters; "
                f"1 to {MAX_REASON_CHARS} are kept with the load. Clear gate with all tasks after it, and "
                "answer again."
            )
        self.log.info("%s: %s has it published: %s", name, user["name"], reason)
        return asdict(Approval(user["name"], reason))


def _subject(manifest: Manifest) -> str:
    return (
        f"Landing day {manifest.landing_day}, load {manifest.load_id}: {manifest.rejected:,} of "
        f"{manifest.read:,} lines ({manifest.rejected / manifest.read:.2%}) were rejected."
    )


def _reason() -> Param:
    return Param(
        "",
        type="string",
        minLength=1,
        maxLength=MAX_REASON_CHARS,
        title="Reason",
        description="Why the day is published or refused, such as: the lines are of a test shop. If it is "
        "published, the reason is kept in shop_ops.loads beside your name.",
    )


def _body(client: Client, manifest: Manifest, reasons: str) -> str:
    """The question in Markdown; what comes from the landing files is code, and so no markup."""
    counts = ("read", "accepted", "duplicates", "late", "rejected")
    figures = " | ".join(f"{getattr(manifest, name):,}" for name in counts)
    # Not one block of code: Airflow's page shows its lines as one.
    listed = "\n".join(f"- {_code(line.strip())}" for line in reasons.splitlines())
    return f"""\
Up to {settings().max_rejected_share:.2%} (`SHOPSTREAM_MAX_REJECTED_SHARE`) is published without a question. \
{_usual(client, manifest)}

| {" | ".join(counts)} |
|{" --- |" * len(counts)}
| {figures} |

The most frequent reasons; of the lines only the shape is shown (digits as 9, letters as x):

{listed}

All of them are in `shop.rejected_events`, whatever the answer. **{PUBLISH}** publishes the accepted lines \
and gives the others up. **{REFUSE}**, or no answer within {_hours(ANSWER_WITHIN)}, leaves the day as it was \
published before: then correct the landing files and trigger load_events_daily for the day."""


def _code(text: str) -> str:
    """The text as code in a line of Markdown, whatever it holds."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks} {text} {ticks}"


def _usual(client: Client, manifest: Manifest) -> str:
    from shopstream.tables.published import rejected_shares

    day = manifest.landing_day
    shares = rejected_shares(client, day - timedelta(days=USUAL_DAYS), day - timedelta(days=1))
    if not shares:
        return f"None of the {USUAL_DAYS} days before is loaded, so what is usual is not known."
    return (
        f"Usual is {median(shares):.2%}: the median of the {len(shares)} loaded days of the {USUAL_DAYS} "
        f"before, of which the highest had {shares[-1]:.2%}."
    )


def _hours(time: timedelta) -> str:
    return f"{time / timedelta(hours=1):g} hours"
