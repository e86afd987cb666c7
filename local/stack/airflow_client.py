"""Airflow's REST API as a user drives it: trigger DAG runs, watch them, read what their tasks returned."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google.auth
import requests
from google.auth.transport.requests import Request
from requests.adapters import HTTPAdapter
from urllib3 import Retry

FIRST_POLL_SECONDS = 0.3
POLL_SECONDS = 1.5
"""A wait begins with short pauses between its questions, since what is short is soon over, and goes on with
these: each question costs Airflow 30 ms of CPU, which its tasks then lack."""
WAIT_SECONDS = 3600.0
ANSWER_AFTER_SECONDS = 7.0
"""Longer than the five seconds between a worker's heartbeats on Composer: at the next one it sees that the
task's first half has ended."""
ANSWER_HOURS = 24
"""As shopstream.questions has it, which takes seconds to import."""
PAGE_RUNS = 100
REQUEST_TIMEOUT_SECONDS = 30
ALERTS = "shopstream.alerts"
"""The logger that tells a failed task's reason again; its module takes seconds to import."""
NOT_LET_IN = (401, 403)
FINAL_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")


class RunFailed(RuntimeError):
    """A DAG run did not end in success; the message names the run, its failed tasks and their errors."""


class AirflowRefused(RuntimeError):
    """Airflow is not reached, lets nobody in or refuses; the message says which, and what to do."""


class AirflowClient:
    """A session with one Airflow, logged in by user name and password."""

    who_may = "Its name or password is wrong, or its user may look, but not do this."
    if_away = "See whether it runs: make status"

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        # On SQLite, Airflow answers 500 when two of its threads wait for each other's write. All that is
        # asked here may be asked again: a run is started under an id of our own.
        patience = Retry(
            total=6,
            backoff_factor=0.25,
            status_forcelist=range(500, 600),
            allowed_methods=None,
            raise_on_status=False,
        )
        self._session.mount(self.url, HTTPAdapter(max_retries=patience))
        self._login = {"username": username, "password": password}
        self._shown: dict[tuple[str, str, str, int], str] = {}
        self._authenticate()

    def another_session(self) -> AirflowClient:
        """The same login in a session of its own, for another thread."""
        return AirflowClient(self.url, **self._login)

    def _authenticate(self) -> None:
        token = self._told(self._ask("POST", "/auth/token", json=self._login))["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def _call(self, method: str, path: str, unless: int | None = None, **kwargs: Any) -> Any:
        """Ask Airflow; None if it answers with nothing, or with the code `unless`."""
        answer = self._ask(method, f"/api/v2{path}", **kwargs)
        if answer.status_code == requests.codes.unauthorized:  # the token ran out in a long demo
            self._authenticate()
            answer = self._ask(method, f"/api/v2{path}", **kwargs)
        return None if answer.status_code == unless else self._told(answer)

    def _told(self, answer: requests.Response) -> Any:
        """What an answer holds; None if nothing."""
        asked = f"{answer.request.method} {answer.request.path_url}"
        told = f"{answer.status_code} to {asked}: {answer.text[:500]}"
        if answer.is_redirect or answer.status_code in NOT_LET_IN:
            raise AirflowRefused(f"Airflow at {self.url} does not let this login in. {self.who_may}\n{told}")
        if not answer.ok:
            raise AirflowRefused(f"Airflow at {self.url} answered {told}")
        return answer.json() if answer.content else None

    def _ask(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        try:
            return self._session.request(
                method,
                f"{self.url}{path}",
                timeout=REQUEST_TIMEOUT_SECONDS,
                allow_redirects=False,  # which Google's login would be
                **kwargs,
            )
        except requests.ConnectionError as error:
            raise AirflowRefused(
                f"Airflow at {self.url} cannot be reached. {self.if_away}\n{error}"
            ) from error

    def wait_for_dags(self, dag_ids: Sequence[str], timeout_seconds: float = 120) -> None:
        """Wait until the DAG processor has parsed these DAGs.

        Raises:
            AirflowRefused: a DAG is missing at the end of the time; it says Airflow's import errors.
        """
        deadline = time.monotonic() + timeout_seconds
        pauses = _pauses()
        while missing := set(dag_ids) - {dag["dag_id"] for dag in self._call("GET", "/dags")["dags"]}:
            if time.monotonic() > deadline:
                errors = [
                    error["stack_trace"] for error in self._call("GET", "/importErrors")["import_errors"]
                ]
                raise AirflowRefused(
                    f"Airflow does not know {', '.join(sorted(missing))} after {timeout_seconds:.0f} s. "
                    + ("\n".join(errors) or "There are no import errors; look at the dag-processor's log.")
                )
            time.sleep(next(pauses))

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs start."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Let no further run of a DAG start."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": True})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, as the UI's form does; return its run id, which names its landing day if any."""
        day = (conf or {}).get("landing_day")
        named = f"{day}__" if day else ""
        run_id = f"manual__{named}{datetime.now(UTC).isoformat()}_{uuid.uuid4().hex[:8]}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        self._call("POST", f"/dags/{dag_id}/dagRuns", unless=requests.codes.conflict, json=body)
        return run_id

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Let a task of a run and those after it run again, as "Clear Task Instance" does with Downstream."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, reason: str) -> dict[str, Any]:
        """Wait until a task of a run asks a person, and answer as its form does; returns question and answer.

        Raises:
            RunFailed: the run ended without a question, or somebody else has answered otherwise.
        """
        while (task := self.task(dag_id, run_id, task_id))["state"] != "awaiting_input":
            if task["state"] in FINAL_STATES:
                raise RunFailed(f"{dag_id} {run_id}: {task_id} ended as {task['state']}, and asked nothing.")
            time.sleep(POLL_SECONDS)
        # Airflow takes a task for lost that goes on before the scheduler has heard that its first half ended.
        time.sleep(ANSWER_AFTER_SECONDS)
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        body = {"chosen_options": [option], "params_input": {"reason": reason}}
        self._call("PATCH", path, unless=requests.codes.conflict, json=body)
        detail: dict[str, Any] = self._call("GET", path)
        if detail["chosen_options"] != [option]:
            raise RunFailed(
                f"{dag_id} {run_id}: {task_id} was answered {detail['chosen_options']} meanwhile."
            )
        return detail

    def set_variable(self, key: str, value: str) -> None:
        """Write one of Airflow's Variables, as its page does."""
        body = {"key": key, "value": value}
        if self._call("PATCH", f"/variables/{key}", unless=requests.codes.not_found, json=body) is None:
            self._call("POST", "/variables", unless=requests.codes.conflict, json=body)

    def variable(self, key: str) -> str | None:
        """What one of Airflow's Variables holds; None without it."""
        found = self._call("GET", f"/variables/{key}", unless=requests.codes.not_found)
        return None if found is None else str(found["value"])

    def forget_scheduled_runs(self, dag_id: str) -> None:
        """Delete the run that the schedule starts for yesterday, when nobody lands yesterday's files."""
        for run_id in self.scheduled_runs(dag_id):
            self.delete_run(dag_id, run_id)

    def scheduled_runs(self, dag_id: str) -> list[str]:
        """The ids of the runs that the schedule has started."""
        runs = self._call("GET", f"/dags/{dag_id}/dagRuns", params={"run_type": "scheduled"})["dag_runs"]
        return [run["dag_run_id"] for run in runs]

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """End a run, if it has not ended, and delete it."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        self._call("PATCH", path, json={"state": "failed"})  # a running one cannot be deleted
        self._call("DELETE", path, unless=requests.codes.not_found)

    def is_paused(self, dag_id: str) -> bool:
        """Whether no run of a DAG starts."""
        return bool(self._call("GET", f"/dags/{dag_id}")["is_paused"])

    def page(self, path: str) -> requests.Response:
        """What Airflow's host answers at a path, such as that of a plugin's page."""
        return self._session.get(f"{self.url}{path}", timeout=REQUEST_TIMEOUT_SECONDS)

    def page_of(self, dag_id: str, run_id: str) -> str:
        """The address of a run's page."""
        return f"{self.url}/dags/{dag_id}/runs/{quote(run_id)}"

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        return self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 1000})[
            "task_instances"
        ]

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task of a run returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._call("GET", path, params={"deserialize": "true"})["value"]

    def runs(self, dag_id: str, since: str) -> list[str]:
        """The run ids of a DAG's runs that ended after the time `since` or have not ended, oldest first."""
        params: dict[str, Any] = {"order_by": "run_after", "limit": PAGE_RUNS}
        runs: list[dict[str, Any]] = []
        while page := self._call("GET", f"/dags/{dag_id}/dagRuns", params=params | {"offset": len(runs)})[
            "dag_runs"
        ]:
            runs += page
        return [run["dag_run_id"] for run in runs if (run["end_date"] or since) >= since]

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """One task instance of a run."""
        return self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")

    def wait(
        self,
        runs: dict[tuple[str, str], str],
        progress: Callable[[str], None],
        enough: int | None = None,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> dict[tuple[str, str], str]:
        """Wait for runs to end, and say what they do meanwhile.

        Args:
            runs: what to call each (dag_id, run_id) in the progress lines.
            progress: takes one line each time a task of a run starts or ends.
            enough: return when so many of them have ended; without it, when all have.
            timeout_seconds: for all of them together.

        Returns:
            The end state of each run that has ended, `success` or `failed`.
        """
        deadline = time.monotonic() + timeout_seconds
        pauses = _pauses()
        ended: dict[tuple[str, str], str] = {}
        while len(ended) < (len(runs) if enough is None else enough):
            if time.monotonic() > deadline:
                waiting = ", ".join(name for run, name in runs.items() if run not in ended)
                raise RunFailed(f"Still not done after {timeout_seconds:.0f} s: {waiting}.")
            time.sleep(next(pauses))
            for (dag_id, run_id), name in runs.items():
                if (dag_id, run_id) in ended:
                    continue
                tasks = self.tasks(dag_id, run_id)
                for task in tasks:
                    key = (dag_id, run_id, task["task_id"], task["map_index"])
                    shown = _shown_state(task)
                    if shown and self._shown.get(key) != shown:
                        self._shown[key] = shown
                        label = task["rendered_map_index"] or (
                            str(task["map_index"]) if task["map_index"] >= 0 else ""
                        )
                        said = f"{name}: {task['task_id']}{f' [{label}]' if label else ''} {shown}"
                        for line in [said, *self._asked(task)]:
                            progress(line)
                if all(task["state"] in FINAL_STATES for task in tasks):
                    state = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
                    if state in ("success", "failed"):
                        ended[dag_id, run_id] = state
        return ended

    def _asked(self, task: dict[str, Any]) -> list[str]:
        """What a task asks a person now, and where to answer; nothing if it asks nothing."""
        if task["state"] != "awaiting_input":
            return []
        dag_id, run_id, task_id = (task[name] for name in ("dag_id", "dag_run_id", "task_id"))
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/{task['map_index']}/hitlDetails"
        question = self._call("GET", path)
        return [
            f"  {question['subject']}",
            f"  Answer at {self.page_of(dag_id, run_id)}/tasks/{task_id}/required_actions",
            f"  It waits {ANSWER_HOURS} hours; no answer is the answer {question['defaults'][0]!r}. Ctrl-C "
            "ends this command, and not the run.",
        ]

    def run(self, dag_id: str, conf: dict[str, Any], progress: Callable[[str], None]) -> str:
        """Start a run, wait for its success, and return its run id.

        Raises:
            RunFailed: it failed; the message has the errors of its tasks.
        """
        run_id = self.trigger(dag_id, conf)
        self.wait_for_success({(dag_id, run_id): dag_id}, progress)
        return run_id

    def wait_for_success(
        self,
        runs: dict[tuple[str, str], str],
        progress: Callable[[str], None],
        timeout_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Wait for runs as `wait` does.

        Raises:
            RunFailed: some failed; the message has the errors of their tasks.
        """
        ended = self.wait(runs, progress, timeout_seconds=timeout_seconds)
        failed = [self.explain(*run) for run, state in ended.items() if state != "success"]
        if failed:
            raise RunFailed("\n".join(failed))

    def log(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """The log of a task instance's last try: what each line tells, with its level and logger."""
        run = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}"
        path = f"{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        log = self._call("GET", path, params={"map_index": task["map_index"], "full_content": "true"})
        return [entry for entry in log["content"] if isinstance(entry, dict)]

    def explain(self, dag_id: str, run_id: str) -> str:
        """The failed tasks of a run with the end of each one's log."""
        lines = [f"{dag_id} {run_id} failed."]
        for task in self.tasks(dag_id, run_id):
            if task["state"] != "failed":
                continue
            entries = self.log(task)
            errors = [entry for entry in entries if entry.get("level") in ("error", "critical")]
            reasons = [entry for entry in errors if entry.get("logger") != ALERTS]
            lines.append(f"  {task['task_id']}:")
            lines += [f"    {_reason(entry)}" for entry in (reasons or errors or entries)[-3:]]
        return "\n".join(lines)


class ComposerClient(AirflowClient):
    """The Airflow of a Composer environment, as who has the application default credentials."""

    who_may = "Its account needs roles/composer.user in the project."
    if_away = "See whether the environment runs, and whether this network reaches its web server."

    def __init__(self, url: str) -> None:
        super().__init__(url, "", "")

    def _authenticate(self) -> None:
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        credentials, _ = google.auth.default(scopes=scopes)
        credentials.refresh(Request())
        self._session.headers["Authorization"] = f"Bearer {credentials.token}"


def _pauses() -> Iterator[float]:
    """Seconds to wait before each look, from FIRST_POLL_SECONDS to POLL_SECONDS."""
    pause = FIRST_POLL_SECONDS
    while True:
        yield pause
        pause = min(1.3 * pause, POLL_SECONDS)


def _reason(entry: dict[str, Any]) -> str:
    """What went wrong, as a line of a log tells it: its exception, if it has one."""
    if not (details := entry.get("error_detail")):
        return str(entry.get("event", ""))
    return f"{details[0].get('exc_type')}: {details[0].get('exc_value')}"


def _shown_state(task: dict[str, Any]) -> str | None:
    """One word for a task's state, or None for what a reader of the progress need not see."""
    state = task["state"]
    if state == "success":
        return f"done ({task['duration'] or 0:.1f} s)"
    if state == "up_for_reschedule":
        return "waiting"
    if state == "awaiting_input":
        return "asks you:"
    return state if state in ("running", "failed", "up_for_retry", "upstream_failed", "skipped") else None
