"""The tasks of watch_figures and tell_digest."""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the tasks import it.
from __future__ import annotations

import logging
from datetime import date, timedelta
from typing import Any

from shopstream.alerts import figures_found, tell_digest
from shopstream.assets import SUMMARIES_BUILT
from shopstream.days import days_of_run, landing_day, summary_days
from shopstream.gcp.clients import bigquery_client
from shopstream.settings import settings
from shopstream.tables.folder import load_table
from shopstream.tables.names import OBJECTIVES

BUILDING = timedelta(days=1)
"""How long before its summaries were built a day may have been published, for a run that one asset event less
started than there were: see shopstream.days. A day more is judged again, and nothing is told twice."""

log = logging.getLogger(__name__)


def resolve_days(**context: Any) -> list[str]:
    """Return the days to judge, in order, as YYYY-MM-DD; see shopstream.days."""
    from shopstream.tables.published import days_published

    days = summary_days(
        context,
        lambda since, until: days_published(bigquery_client(), since - BUILDING, until),
        SUMMARIES_BUILT,
    )
    return days_of_run(days)


def judge_figures(days: list[str], **context: Any) -> dict[str, int]:
    """Hold the figures of the days against what they usually are; write and tell what is not as usual.

    Returns:
        Each day that was judged, as YYYY-MM-DD, and how many figures were not as usual.
    """
    from shopstream.watch.figures import judge_day, read_limits
    from shopstream.watch.read import read_counts, told_before, write_findings

    client, limits = bigquery_client(), read_limits()
    wanted = [date.fromisoformat(day) for day in days]
    shop, parts = read_counts(client, min(wanted) - timedelta(weeks=limits.weeks), max(wanted))
    judgements = [judge_day(day, shop, parts, limits) for day in wanted]
    for judgement in judgements:
        for line in judgement.not_judged:
            log.warning("Not judged: %s", line)
    findings = [finding for judgement in judgements for finding in judgement.findings]
    for finding in findings:
        log.warning(finding.sentence)
    told = told_before(client, wanted)
    new = [
        finding.sentence
        for finding in findings
        if (finding.day, finding.figure, finding.subcategory, finding.is_high) not in told
    ]
    # Told before it is written: a task that is killed between the two tells twice, and not never.
    if new:
        figures_found(context, new)
    # A day that is not final keeps what was found of it until its summaries are built.
    if final := [day for day in wanted if day in shop]:
        write_findings(client, final, findings)
    log.info(
        "Days looked at: %d; figures not as usual: %d, told now: %d.", len(days), len(findings), len(new)
    )
    return {str(judgement.day): len(judgement.findings) for judgement in judgements}


def digest(**context: Any) -> str:
    """Reckon the objectives up to the run's day, and tell the day in plain words; returns them."""
    from shopstream.tables.day import build_day
    from shopstream.watch.digest import in_words, read_day

    client, day = bigquery_client(), landing_day(context)
    build_day(client, load_table(settings().sql_dir, OBJECTIVES), day)
    words = in_words(day, read_day(client, day))
    tell_digest(words)
    return words
