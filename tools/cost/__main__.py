"""What a month costs at 1, 100 and 10,000 times this shop: `python -m tools.cost`.

Prints dollars by service, and of each statement sent to BigQuery the bytes and dollars. With --json the same
as JSON; with --against such a file, of another commit, only what has changed since, and ends with 1 if the
whole has become dearer by more than --at-most per cent.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from local.stack import emulators
from shopstream.rounding import percent
from shopstream.settings import settings
from shopstream.tables.folder import TableError, all_tables
from tools.cost.queries import queries, read_shop, sizes_of
from tools.cost.services import items

TIMES = (1, 100, 10_000)
PRICES = Path(__file__).parent / "prices.yaml"
AT_MOST_PERCENT = 10.0
SHOWN_STATEMENTS = 30
COMPARED = ("all", "BigQuery queries")
"""What must not become dearer: the statements alone too, for they are a small part of the whole."""
SHOWN_CHANGE = 0.005
"""A change below this share of an item is none."""

Bill = dict[str, dict[str, dict[str, Any]]]
"""By the shop's size, such as "100", by "service: name": bytes (None if it is not bytes that are billed),
dollars."""


def bill(sql_dir: Path, shop: Mapping[str, Any]) -> Bill:
    """Return what a month costs, at each size of TIMES; `shop` is shop.yaml.

    Raises:
        emulators.NotReady: the analyzer is not installed, or does not start.
        TableError: a folder is not as it must be, or a table is not measured.
    """
    prices = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    sizes = sizes_of({table.full_name: table for table in all_tables(sql_dir)}, shop)
    asked = queries(sql_dir, shop)
    return {
        str(times): {
            f"{item.service}: {item.name}": {
                "service": item.service,
                "bytes": item.bytes_,
                "dollars": item.dollars,
            }
            for item in items(asked, sizes, shop["events_a_day"], prices, times)
        }
        for times in TIMES
    }


def by_service(of_one_size: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the dollars of each service, and of all."""
    sums: defaultdict[str, float] = defaultdict(float)
    for item in of_one_size.values():
        sums[item["service"]] += item["dollars"]
    return {**sums, "all": sum(sums.values())}


def describe(found: Bill) -> str:
    """Return the tables: services, then statements, the dearest first."""
    services = {times: by_service(of_one_size) for times, of_one_size in found.items()}
    first = next(iter(found.values()))
    lines = [
        "US dollars a month, by service:",
        "",
        *table(
            ("service", *(f"{int(times):,} x" for times in found)),
            (
                (name, *(f"{of_one[name]:,.0f}" for of_one in services.values()))
                for name in next(iter(services.values()))
            ),
        ),
        "",
        "BigQuery's statements, bytes and dollars a month:",
        "",
    ]
    statements = [name for name, item in first.items() if item["service"] == "BigQuery queries"]
    statements.sort(key=lambda name: -first[name]["dollars"])
    shown, others = statements[:SHOWN_STATEMENTS], statements[SHOWN_STATEMENTS:]
    rows = [
        (
            label,
            *(
                cell
                for of_one_size in found.values()
                for cell in _cells([of_one_size[name] for name in names])
            ),
        )
        for label, names in [
            *((name.removeprefix("BigQuery queries: "), [name]) for name in shown),
            (f"{len(others)} others", others),
        ]
    ]
    heads = [head for times in found for head in (f"{int(times):,} x", "dollars")]
    return "\n".join([*lines, *table(("statement", *heads), rows)])


def difference(before: Bill, after: Bill) -> tuple[str, float]:
    """Return what has changed, the largest first; and by how many per cent COMPARED grew where it grew most,
    of all sizes that both bills have.

    The items are those of the size at which it grew most.
    """
    sums = {
        (service, times): tuple(by_service(bill_[times])[service] for bill_ in (before, after))
        for times in after
        if times in before
        for service in COMPARED
    }
    percents = {key: (now - was) / was * 100 for key, (was, now) in sums.items()}
    service, times = most = max(percents, key=lambda key: percents[key])
    old, new = before[times], after[times]
    changed = []
    for name in {**old, **new}:
        was, now = (of_one.get(name, {}).get("dollars", 0.0) for of_one in (old, new))
        if abs(now - was) > SHOWN_CHANGE * max(was, now):
            changed.append((name, was, now))
    rows = (
        (name, f"{was:,.2f}", f"{now:,.2f}", _verdict(was, now))
        for name, was, now in sorted(changed, key=lambda one: -abs(one[2] - one[1]))
    )

    def told(key: tuple[str, str]) -> str:
        was, now = sums[key]
        return f"{now:,.0f} US dollars, before {was:,.0f} ({percents[key]:+.1f} %)."

    text = f"A month of this shop costs {told(('all', '1'))}"
    if not changed:
        return f"{text} No item has changed.", percents[most]
    text += f"\nCompared by what grew most, {service} at {int(times):,} x: {told(most)}"
    return "\n".join([text, "", *table(("item", "before", "now", ""), rows)]), percents[most]


def human(bytes_: float) -> str:
    """Write bytes with the unit that suits them."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(int(math.log(max(bytes_, 1), 1024)), len(units) - 1)
    return f"{bytes_ / 1024**power:,.1f} {units[power]}"


def _cells(some: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    some = list(some)
    return human(sum(item["bytes"] for item in some)), f"{sum(item['dollars'] for item in some):,.2f}"


def _verdict(was: float, now: float) -> str:
    if not was:
        return "new"
    if not now:
        return "gone"
    return (
        f"dearer by {percent(now / was - 1, 0)}" if now > was else f"cheaper by {percent(1 - now / was, 0)}"
    )


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, all columns but the first to the right."""
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main(argv: list[str] | None = None) -> int:
    """Print the bill, or the difference; return 1 if it cannot be made or has become too dear."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the bill as JSON too")
    parser.add_argument("--against", type=Path, metavar="FILE", help="the JSON of another commit")
    parser.add_argument(
        "--at-most", type=float, metavar="PERCENT", default=AT_MOST_PERCENT, help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    try:
        found = bill(settings().sql_dir, read_shop())
    except (emulators.NotReady, TableError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not options.against:
        print(describe(found))
        return 0
    text, percent = difference(json.loads(options.against.read_text(encoding="utf-8")), found)
    print(text)
    return 1 if percent > options.at_most else 0


if __name__ == "__main__":
    sys.exit(main())
