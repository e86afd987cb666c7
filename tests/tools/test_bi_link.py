"""bi_link: an address for each summary, by the parameters of Looker Studio's Linking API."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from local.root import ROOT
from shopstream.tables.folder import summaries_in_order
from tools.bi_link import links, main


def test_each_summary_has_an_address_that_connects_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", "my-shop"]) == 0
    printed = capsys.readouterr().out
    found = links("my-shop")
    assert {f"shop.{name}" for name in found} == set(summaries_in_order(ROOT / "sql"))
    for name, link in found.items():
        assert f"{name}\n  {link}\n" in printed
        assert (
            urlsplit(link)._replace(query="").geturl() == "https://lookerstudio.google.com/reporting/create"
        )
        told = {key: value[0] for key, value in parse_qs(urlsplit(link).query, strict_parsing=True).items()}
        assert told == {
            "c.mode": "edit",
            "r.reportName": f"Shop: {name.replace('_', ' ')}",
            "ds.connector": "bigQuery",
            "ds.datasourceName": f"shop.{name}",
            "ds.projectId": "my-shop",
            "ds.billingProjectId": "my-shop",
            "ds.type": "TABLE",
            "ds.datasetId": "shop",
            "ds.tableId": name,
        }


def test_what_is_no_project_is_refused_by_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", "My Shop"]) == 1
    assert capsys.readouterr().err == "PROJECT is 'My Shop'; give the Google Cloud project's id.\n"
