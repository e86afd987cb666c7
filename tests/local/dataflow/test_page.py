"""The local Dataflow's pages show its jobs to people, and what comes from outside as text."""

from __future__ import annotations

from typing import Any

from local.dataflow import page


def job(**changes: Any) -> dict[str, Any]:
    return {
        "id": "2019-11-01_1",
        "name": "load-events-2019-11-01",
        "type": "JOB_TYPE_BATCH",
        "currentState": "JOB_STATE_DONE",
        "createTime": "2019-11-01T00:00:00Z",
        "currentStateTime": "2019-11-01T00:01:00Z",
        "environment": {"sdkPipelineOptions": {"options": {"landing": "gs://b/<day>"}}},
    } | changes


def test_jobs_are_listed_with_their_states_and_lead_to_their_own_pages() -> None:
    shown = page.of_jobs([job(), job(id="2019-11-01_2", currentState="JOB_STATE_FAILED")])
    assert '<a href="/jobs/2019-11-01_1">load-events-2019-11-01</a>' in shown
    assert "<td>JOB_STATE_FAILED" in shown
    assert "No job has run yet." in page.of_jobs([])


def test_a_job_is_shown_with_its_parameters_messages_and_log_as_text() -> None:
    message = {"time": "2019-11-01T00:00:01Z", "messageText": "<b>bold</b>"}
    shown = page.of_job(job(), [message], "a line <script>")
    assert "<th>landing<td>gs://b/&lt;day&gt;" in shown
    assert "<td>&lt;b&gt;bold&lt;/b&gt;" in shown
    assert "<pre>a line &lt;script&gt;</pre>" in shown
    assert "<script>" not in shown
