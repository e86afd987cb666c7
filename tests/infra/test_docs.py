"""Every command of the deployment's pages exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from local.root import ROOT
from tests.infra.gcloud import unknown_to_gcloud

PAGES = [ROOT / "docs" / name for name in ("deployment.md", "getting-started.md", "permissions.md")]


def commands(page: Path) -> list[str]:
    """The commands of a page's code blocks, each on one line."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


GCLOUD = [line for page in PAGES for line in commands(page) if line.startswith("gcloud ")]


def test_the_pages_have_commands() -> None:
    assert len(GCLOUD) > 10


@pytest.mark.parametrize("line", GCLOUD)
def test_gcloud_has_each_command_of_the_pages(line: str) -> None:
    assert unknown_to_gcloud(shlex.split(line)) == set()


@pytest.mark.parametrize("line", ["gcloud composer environment list", "gcloud storage rsync a b --recursve"])
def test_a_command_that_gcloud_does_not_have_is_found(line: str) -> None:
    assert unknown_to_gcloud(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_make_has_each_target_of_the_pages(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_file_and_page_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:infra|docs|\.github)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).is_file() or name == "infra/.terraform.lock.hcl", name
    for link in re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)", text):
        assert (page.parent / link).is_file(), link


def test_each_dag_that_getting_started_starts_exists() -> None:
    text = (ROOT / "docs" / "getting-started.md").read_text()
    started = set(re.findall(r"(?:npause|rigger) (?:all DAGs but )?`(\w+)`", text))
    assert started >= {"land_export", "load_events_daily", "keep_stream_alive", "simulate_stream"}
    assert started <= {path.stem for path in (ROOT / "dags").glob("*.py")}
