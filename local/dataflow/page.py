"""The local Dataflow for people: its jobs, and one job with its messages and the end of its log, in HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

LOG_BYTES = 100_000
_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    "<style>body{{font:16px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}}"
    "td,th{{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}}"
    "pre{{white-space:pre-wrap}}</style>"
    "<h1>{title}</h1>"
)
_SHOWN = ("id", "name", "type", "currentState", "createTime", "currentStateTime")


def of_jobs(jobs: Iterable[Mapping[str, Any]]) -> str:
    """The page of all jobs, the newest first."""
    rows = "".join(
        f'<tr><td><a href="/jobs/{_text(job["id"])}">{_text(job["name"])}</a>'
        + "".join(f"<td>{_text(job[name])}" for name in _SHOWN[2:])
        for job in jobs
    )
    head = "<tr><th>Job<th>Type<th>State<th>Made<th>In this state since"
    return _page("Local Dataflow", f"<table>{head}{rows}</table>" if rows else "<p>No job has run yet.</p>")


def of_job(job: Mapping[str, Any], messages: Iterable[Mapping[str, str]], log: str) -> str:
    """The page of one job: what it is and was given, its messages, the end of its log."""
    options = job["environment"]["sdkPipelineOptions"]["options"]
    facts = {name: job[name] for name in _SHOWN} | dict(sorted(options.items()))
    told = "".join(f"<tr><th>{_text(name)}<td>{_text(value)}" for name, value in facts.items())
    said = "".join(f"<tr><td>{_text(one['time'])}<td>{_text(one['messageText'])}" for one in messages)
    return _page(
        job["name"],
        f'<p><a href="/">All jobs</a></p><table>{told}</table><h2>Messages</h2><table>{said}</table>'
        f"<h2>Log</h2><pre>{_text(log)}</pre>",
    )


def _page(title: str, body: str) -> str:
    return _HEAD.format(title=_text(title)) + body


def _text(value: object) -> str:
    return html.escape(str(value))
