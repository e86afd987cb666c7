"""Print the addresses that open each summary in Looker Studio, connected and ready for its first chart.

    python -m tools.bi_link --project ID

Looker Studio's Linking API makes a report of a table from its address alone. What a reader needs: docs/bi.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from urllib.parse import urlencode

from local.root import ROOT
from shopstream.tables.folder import all_tables

CREATE = "https://lookerstudio.google.com/reporting/create"


def links(project: str) -> dict[str, str]:
    """Return the address for each table of dataset shop, in order of their names.

    Raises:
        ValueError: that is no project's id.
    """
    if not re.fullmatch("[a-z][-a-z0-9]{4,28}[a-z0-9]", project):
        raise ValueError(f"PROJECT is {project or 'not set'!r}; give the Google Cloud project's id.")
    return {
        table.name: f"{CREATE}?"
        + urlencode(
            {
                "c.mode": "edit",
                "r.reportName": f"Shop: {table.name.replace('_', ' ')}",
                "ds.connector": "bigQuery",
                "ds.datasourceName": table.full_name,
                "ds.projectId": project,
                "ds.billingProjectId": project,
                "ds.type": "TABLE",
                "ds.datasetId": table.dataset,
                "ds.tableId": table.name,
            }
        )
        for table in sorted(all_tables(ROOT / "sql"), key=lambda table: table.name)
        # A view that is read for one day or one hour at a time is no start for a chart.
        if table.dataset == "shop" and not table.view
    }


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.bi_link", description=__doc__)
    parser.add_argument("--project", default="", help="the Google Cloud project's id")
    options = parser.parse_args(argv)
    try:
        found = links(options.project)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for name, link in found.items():
        print(f"{name}\n  {link}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
