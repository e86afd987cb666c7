"""docs/scale.md says what `make scale` prints, and a limit is met where use and limit are equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import scale
from bench.scale import Limit, Measured, Production, hours_in, load_of, measured, production
from local.root import ROOT
from tools.cost.services import LOAD_HOURS, NODE_WRITES_A_SECOND


@pytest.mark.integration
def test_the_page_has_each_table_as_it_is_printed() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    printed = scale.describe(Measured()).split("\n\n")
    assert len(printed) == 5
    for table in printed:
        assert f"\n\n{table}\n\n" in page, "run `make scale` and put its tables into docs/scale.md"


@pytest.mark.integration
def test_every_limit_is_above_what_this_shop_uses_and_the_first_that_is_met_comes_first() -> None:
    found = scale.limits(Measured())
    assert found[0].times > 1
    assert [limit.times for limit in found] == sorted(limit.times for limit in found)
    dearer = scale.limits(Measured(load_cpu_us=1000))
    [of_load], [of_dearer] = (
        [one for one in some if one.what == "CPUs of a load"] for some in (found, dearer)
    )
    assert of_dearer.times < of_load.times / 2


def test_a_limit_is_met_at_as_many_times_the_shop_as_it_is_more_than_what_is_used() -> None:
    assert Limit("nodes", used=0.5, limit=10, whose="ours").times == 20


def test_a_load_takes_as_long_as_the_fewer_of_its_cpus_and_of_spanners_nodes_make_it() -> None:
    events = 225e6
    load = load_of(events, Measured())
    assert hours_in(load, Production(2 * load.vcpus, 1000, 8)) == pytest.approx(LOAD_HOURS / 2)
    assert hours_in(load, Production(1000, 2, 8)) == pytest.approx(events / 2 / NODE_WRITES_A_SECOND / 3600)


def test_production_is_what_terraform_is_given() -> None:
    text = (ROOT / "infra" / "production.tfvars").read_text()
    found = production()
    assert f"max = {found.nodes * 1000:.0f} }}" in text
    assert f"batch_max_workers   = {found.batch_vcpus // 4}\n" in text
    assert f"stream_max_workers  = {found.stream_vcpus // 4}\n" in text


def test_newer_measurements_of_this_machine_take_the_place_of_the_known_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "RESULT", tmp_path / "result.json")
    assert measured() == Measured()
    scale.RESULT.write_text(json.dumps({"load_cpu_us_per_row": 3.25, "stream_cpu_us_per_event": 12}))
    assert measured() == Measured(load_cpu_us=3.25)
    scale.RESULT.write_text(json.dumps({"stream_json_cpu_us_per_event": 20}))
    assert measured() == Measured(stream_cpu_us=20), "the shop's messages are JSON objects"
