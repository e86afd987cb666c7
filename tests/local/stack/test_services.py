"""The settings of the local stack."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from beam_jobs.contract import ContractError
from local.stack.services import DEFAULT_PORTS, environment_for, upload_command
from shopstream.gcp.storage import open_object
from shopstream.settings import settings


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("SHOPSTREAM_MAX_REJECTED_SHARE", "max_rejected_share", "0.25"),
        ("SHOPSTREAM_STREAM_MAX_LAUNCHES", "stream_max_launches", "7"),
    ],
)
def test_a_stack_tells_the_settings_by_which_its_dags_go(
    variable: str, field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert float(environment_for(DEFAULT_PORTS)[variable]) == getattr(settings(), field)
    monkeypatch.setenv(variable, value)
    assert environment_for(DEFAULT_PORTS)[variable] == value


@pytest.mark.integration
def test_the_command_that_a_refusal_names_for_an_object_that_is_not_there_uploads_it(
    bucket: Bucket, gcs_emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOPSTREAM_UPLOAD_COMMAND", upload_command(gcs_emulator))
    name, file = "exports/it's 100 % ü&$(x).csv", tmp_path / "events.csv"
    file.write_bytes(b"a\r\n\x00\xff")
    with pytest.raises(ContractError) as refused, open_object(bucket, name, chunk_bytes=4):
        pass
    _, command = str(refused.value).split("Upload it: ")
    subprocess.run(command.replace("FILE", file.name), shell=True, check=True, cwd=tmp_path, timeout=30)
    with open_object(bucket, name, chunk_bytes=4) as (stored, _):
        assert stored.read() == file.read_bytes()
