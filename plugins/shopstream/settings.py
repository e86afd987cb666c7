"""Where things are: the one place that reads shopstream's environment variables.

Every name has the prefix SHOPSTREAM_, since Composer reserves many others. Endpoints are Google Cloud's by
default; a local stack names its own. Google's clients read SPANNER_EMULATOR_HOST, STORAGE_EMULATOR_HOST,
BIGQUERY_EMULATOR_HOST and PUBSUB_EMULATOR_HOST by themselves.
"""

# ruff: noqa: RUF009
# What a field's default calls makes a dataclass's field of it.

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from beam_jobs.pseudonyms import check_key_name

LABELS = {"app": "shopstream"}
"""On each job, data set and table, so that costs can be told apart; Terraform gives it to what it makes."""
_SQL_DIR = Path(__file__).resolve().parents[2] / "sql"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """From which value on a figure calls for a look (`warn`), and from which it fails (`fail`)."""

    warn: float
    fail: float


@dataclass(frozen=True, slots=True)
class Workers:
    """What a pipeline's Dataflow workers are; None leaves it to the template's or Dataflow's default."""

    service_account: str | None
    subnetwork: str | None
    machine_type: str | None
    max_workers: int | None

    def environment(self) -> dict[str, str | int]:
        """The fields of a launch's environment (v1b3) that say so."""
        # Without addresses of their own they reach nothing but Google, from the subnetwork that lets them.
        private = {"ipConfiguration": "WORKER_IP_PRIVATE"} if self.subnetwork else {}
        named = {
            "serviceAccountEmail": self.service_account,
            "subnetwork": self.subnetwork,
            "machineType": self.machine_type,
            "maxWorkers": self.max_workers,
        }
        return {field: value for field, value in named.items() if value} | private


def _read(read: Callable[..., T], *arguments: Any) -> T:
    """Make a field's value be read when the settings are."""
    made: T = field(default_factory=lambda: read(*arguments))
    return made


def _text(name: str, default: str) -> str:
    return os.environ.get(name, default)


def _text_or_none(name: str) -> str | None:
    return os.environ.get(name) or None


def _workers(service_account: str, machine_type: str, max_workers: str) -> Workers:
    """Read the variables of these names."""
    return Workers(
        _text_or_none(service_account),
        _text_or_none("SHOPSTREAM_DATAFLOW_SUBNETWORK"),
        _text_or_none(machine_type),
        # 1,000 is Dataflow's own limit.
        _whole_number(max_workers, "", 1, 1000) if os.environ.get(max_workers) else None,
    )


def _limits(name: str, warn: str, fail: str, read: Callable[[str, str], float]) -> Limits:
    """Read two variables; `name` has {} for WARN and FAIL."""
    limits = Limits(read(name.format("WARN"), warn), read(name.format("FAIL"), fail))
    if limits.warn > limits.fail:
        raise ValueError(
            f"{name.format('WARN')} is {limits.warn:g} and {name.format('FAIL')} is {limits.fail:g}; "
            "give a warn level that is not above the fail level"
        )
    return limits


def _upload_command(name: str) -> str:
    command = os.environ.get(name) or "gcloud storage cp FILE {uri}"
    try:
        command.format(uri="", bucket="", name="")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"{name} is {command!r}; give a command that has no braces but {{uri}}, {{bucket}} and {{name}}"
        ) from error
    return command


def _currency(name: str) -> str:
    code = os.environ.get(name, "")
    if code and not re.fullmatch("[A-Z]{3}", code):
        raise ValueError(f"{name} is {code!r}; give the three letters of ISO 4217, such as USD, or nothing")
    return code


def _key_names(name: str) -> tuple[str, ...]:
    names = [text for text in os.environ.get(name, "").split(",") if text]
    try:
        return tuple(map(check_key_name, names))
    except ValueError as error:
        raise ValueError(f"{name}: {error}; several are separated by commas, the newest first") from None


def _share(name: str, default: str) -> float:
    return _number(name, default, 0, 1, "a share from 0 to 1, such as 0.01")


def _seconds(name: str, default: str) -> float:
    return _number(name, default, 1, 30 * 86_400, f"seconds from 1 to {30 * 86_400:,}, such as {default}")


def _days_or_ever(name: str) -> int:
    days = _whole_number(name, "0", 0, 36_500)
    # Reloads, comparisons and the dashboard look back on the last weeks.
    if 0 < days < 60:
        raise ValueError(f"{name} is {days}; give 0, for ever, or at least 60")
    return days


def _whole_number(name: str, default: str, least: int, most: int) -> int:
    number = _number(name, default, least, most, f"a whole number from {least:,} to {most:,}")
    if number != int(number):
        raise ValueError(f"{name} is {number:g}; give a whole number from {least:,} to {most:,}")
    return int(number)


def _number(name: str, default: str, least: float, most: float, wanted: str) -> float:
    text = os.environ.get(name, default)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:  # nan neither
        raise ValueError(f"{name} is {text!r}; give {wanted}")
    return number


@dataclass(frozen=True, slots=True)
class Settings:
    """The environment of one deployment: each field is read from its variable, or has its default."""

    project: str = _read(_text, "SHOPSTREAM_PROJECT", "shopstream-local")
    region: str = _read(_text, "SHOPSTREAM_REGION", "us-central1")
    bucket: str = _read(_text, "SHOPSTREAM_BUCKET", "shopstream-local")
    temp_bucket: str = _read(
        lambda: _text_or_none("SHOPSTREAM_TEMP_BUCKET") or _text("SHOPSTREAM_BUCKET", "shopstream-local")
    )
    batch_workers: Workers = _read(
        _workers,
        "SHOPSTREAM_BATCH_SERVICE_ACCOUNT",
        "SHOPSTREAM_BATCH_MACHINE_TYPE",
        "SHOPSTREAM_BATCH_MAX_WORKERS",
    )
    stream_workers: Workers = _read(
        _workers,
        "SHOPSTREAM_STREAM_SERVICE_ACCOUNT",
        "SHOPSTREAM_STREAM_MACHINE_TYPE",
        "SHOPSTREAM_STREAM_MAX_WORKERS",
    )
    job_look_seconds: int = _read(_whole_number, "SHOPSTREAM_JOB_LOOK_SECONDS", "60", 1, 3600)
    spanner_instance: str = _read(_text, "SHOPSTREAM_SPANNER_INSTANCE", "shopstream")
    spanner_database: str = _read(_text, "SHOPSTREAM_SPANNER_DATABASE", "shopstream")
    template_version: str = _read(_text, "SHOPSTREAM_TEMPLATE_VERSION", "local")
    dataflow_endpoint: str | None = _read(_text_or_none, "SHOPSTREAM_DATAFLOW_ENDPOINT")
    object_url: str = _read(_text, "SHOPSTREAM_OBJECT_URL", "https://storage.cloud.google.com")
    upload_command: str = _read(_upload_command, "SHOPSTREAM_UPLOAD_COMMAND")
    sql_dir: Path = _read(lambda: Path(_text_or_none("SHOPSTREAM_SQL_DIR") or _SQL_DIR))
    max_rejected_share: float = _read(_share, "SHOPSTREAM_MAX_REJECTED_SHARE", "0.01")
    max_loads: int = _read(_whole_number, "SHOPSTREAM_MAX_LOADS", "3", 1, 100)
    topic: str = _read(_text, "SHOPSTREAM_TOPIC", "events")
    subscription: str = _read(_text, "SHOPSTREAM_SUBSCRIPTION", "events-stream")
    monitoring_endpoint: str | None = _read(_text_or_none, "SHOPSTREAM_MONITORING_ENDPOINT")
    keep_alive_seconds: int = _read(_whole_number, "SHOPSTREAM_KEEP_ALIVE_SECONDS", "600", 5, 86_400)
    stream_max_launches: int = _read(_whole_number, "SHOPSTREAM_STREAM_MAX_LAUNCHES", "5", 1, 1000)
    unacked_seconds: Limits = _read(_limits, "SHOPSTREAM_UNACKED_{}_SECONDS", "300", "1800", _seconds)
    newest_row_seconds: Limits = _read(_limits, "SHOPSTREAM_NEWEST_ROW_{}_SECONDS", "900", "3600", _seconds)
    stream_rejected_share: Limits = _read(
        _limits, "SHOPSTREAM_STREAM_REJECTED_{}_SHARE", "0.01", "0.1", _share
    )
    stream_missing_share: Limits = _read(
        _limits, "SHOPSTREAM_STREAM_MISSING_{}_SHARE", "0.001", "0.01", _share
    )
    dashboard_port: int = _read(_whole_number, "SHOPSTREAM_DASHBOARD_PORT", "8092", 1, 65_535)
    dashboard_token: str | None = _read(_text_or_none, "SHOPSTREAM_DASHBOARD_TOKEN")
    dashboard_iap_audience: str | None = _read(_text_or_none, "SHOPSTREAM_DASHBOARD_IAP_AUDIENCE")
    dashboard_airflow_url: str | None = _read(
        lambda: _text("SHOPSTREAM_DASHBOARD_AIRFLOW_URL", "").rstrip("/") or None
    )
    max_publish_gap_seconds: float = _read(_seconds, "SHOPSTREAM_MAX_PUBLISH_GAP_SECONDS", "3600")
    currency: str = _read(_currency, "SHOPSTREAM_CURRENCY")
    alert_id: str = _read(_text, "SHOPSTREAM_ALERT_ID", "local")
    events_keep_days: int = _read(_days_or_ever, "SHOPSTREAM_EVENTS_KEEP_DAYS")
    late_days_hours: int = _read(_whole_number, "SHOPSTREAM_LATE_DAYS_HOURS", "6", 1, 24)
    late_days_share: float = _read(_share, "SHOPSTREAM_LATE_DAYS_SHARE", "0.01")
    bytes_limit_times: float = _read(
        _number, "SHOPSTREAM_BYTES_LIMIT_TIMES", "3", 1, 1000, "a number from 1 to 1,000"
    )
    forget_key: str | None = _read(_text_or_none, "SHOPSTREAM_FORGET_KEY")
    pseudonym_keys: tuple[str, ...] = _read(_key_names, "SHOPSTREAM_PSEUDONYM_KEYS")

    def pseudonym_key(self) -> dict[str, str]:
        """The parameter of a pipeline's launch that names the key of pseudonyms; none where they are off."""
        return {"pseudonym_key": self.pseudonym_keys[0]} if self.pseudonym_keys else {}

    def pseudonym_key_label(self) -> str:
        """That key as the value of a job's label: the number of its version, `file`, or `none`."""
        if not self.pseudonym_keys:
            return "none"
        number = self.pseudonym_keys[0].rpartition("/versions/")[2]
        return number if number.isdecimal() else "file"

    def image(self, pipeline: str, version: str) -> str:
        """The image of a pipeline, in which its workers find beam_jobs."""
        return pipeline_image(self.region, self.project, pipeline, version)

    def uploading(self, bucket: str, name: str) -> str:
        """The command for a shell that uploads FILE as this object."""
        return self.upload_command.format(
            uri=shlex.quote(f"gs://{bucket}/{name}"), bucket=quote(bucket, safe=""), name=quote(name, safe="")
        )


def settings() -> Settings:
    """Read the settings now, from the environment.

    Raises:
        ValueError: a number is none or out of its range; the message names the variable and the range.
    """
    return Settings()


def pipeline_image(region: str, project: str, pipeline: str, version: str) -> str:
    """Where the image of a pipeline is, by the template version it belongs to; a deployment puts it there."""
    return f"{region}-docker.pkg.dev/{project}/shopstream/{pipeline}:{version}"
