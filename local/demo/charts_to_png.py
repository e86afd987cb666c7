"""Draw the report's charts as PNG files.

    python -m local.demo.charts_to_png --datasets DIR --out DIR

DIR of --datasets holds one CSV file for each summary table, such as daily_event_count.csv, with the table's
columns; the charts are the report's own, from the same specifications.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import vl_convert

from shopstream.report.page import chart_specs, summary_columns
from tools.vega_bundle import VEGA_LITE

TEXT_COLUMNS = ("event_date", "event_type", "subcategory", "weekday_name")
PIXELS_PER_POINT = 2


def read_datasets(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read `<table>.csv` for each summary table that the charts need.

    Raises:
        FileNotFoundError: a table's file is missing.
        ValueError: a file lacks a column, or a number cannot be read.
    """
    datasets = {}
    for table, columns in summary_columns().items():
        path = folder / f"{table}.csv"
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise ValueError(f"{path} has no column {', '.join(missing)}; it has {reader.fieldnames}")
            datasets[table] = [
                {name: row[name] if name in TEXT_COLUMNS else Decimal(row[name]) for name in columns}
                for row in reader
            ]
    return datasets


def png(spec: dict[str, Any]) -> bytes:
    """Draw one Vega-Lite specification that holds its data."""
    return vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=PIXELS_PER_POINT)


def draw(datasets: Mapping[str, list[dict[str, Any]]], out: Path) -> list[Path]:
    """Draw each chart that has rows into `out`, and return the files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, spec in chart_specs(datasets).items():
        paths.append(out / f"{name}.png")
        paths[-1].write_bytes(png(spec))
    return paths


def main() -> None:
    """Draw the charts of the CSV files."""
    parser = argparse.ArgumentParser(description="Draw the report's charts as PNG files.")
    parser.add_argument("--datasets", type=Path, required=True, help="folder of <table>.csv files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write <chart>.png files into")
    options = parser.parse_args()
    for path in draw(read_datasets(options.datasets), options.out):
        print(path)


if __name__ == "__main__":
    main()
