"""The reference itself, against a file small enough to add up by hand."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from local.events.files import write_landing_day
from tools import reference
from tools.reference import compare, landing_counts, reference_summaries

HEADER = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
SATURDAY = date(2019, 11, 2)
PHONE = "electronics.smartphone"
LINES = f"""\
2019-11-02 00:00:00 UTC,view,1,10,{PHONE},apple,100.00,7,a
2019-11-02 00:00:00 UTC,view,1,10,{PHONE},apple,100.00,7,a
2019-11-02 00:00:00 UTC,view,1,10,{PHONE},apple,100,7,a
2019-11-02 00:59:59 UTC,view,2,10,{PHONE},nan,0.01,7,b
2019-11-02 00:59:59 UTC,view,3,10,{PHONE},,0,8,
2019-11-02 01:00:00 UTC,cart,1,10,{PHONE},apple,100.00,7,a
2019-11-02 23:59:59 UTC,purchase,1,10,{PHONE},apple,100.00,7,a
2019-11-02 12:00:00 UTC,view,4,20,,,5.55,9,c
2019-11-02 12:00:00 UTC,purchase,5,30,furniture.kitchen.chair,brw,50.00,9,c
2019-11-01 12:00:00 UTC,view,6,30,appliances.kitchen.oven,,70.00,9,d
2019-11-03 00:00:00 UTC,view,6,30,appliances.kitchen.oven,,70.00,9,d
2019-10-25 00:00:00 UTC,view,6,30,appliances.kitchen.oven,,70.00,9,d
2019-11-02 12:00:00 UTC,remove,6,30,appliances.kitchen.oven,,70.00,9,d
"""


@pytest.fixture
def landed(tmp_path: Path) -> Path:
    path = tmp_path / "2019-11-02" / "events.csv"
    path.parent.mkdir()
    path.write_text(HEADER + LINES)
    return path


def test_the_landing_counts_are_those_counted_by_hand(landed: Path) -> None:
    (row,) = landing_counts([landed]).to_dict("records")

    # Three lines are one event: the price is written in two ways. The last three lines are bad.
    assert row == {
        "landing_day": SATURDAY,
        "read": 13,
        "accepted": 10,
        "rejected": 3,
        "distinct": 8,
        "duplicates": 2,
        "late": 1,
    }


def test_the_summaries_are_those_computed_by_hand(landed: Path) -> None:
    friday = date(2019, 11, 1)
    found = {
        name: list(frame.itertuples(index=False, name=None))
        for name, frame in reference_summaries([landed]).items()
    }

    assert found["daily_event_count"] == [
        (friday, "view", 1, 1, 1),
        (SATURDAY, "cart", 1, 1, 1),
        (SATURDAY, "purchase", 2, 2, 2),
        (SATURDAY, "view", 4, 3, 3),
    ]
    assert found["most_visited_subcategories"] == [(friday, "kitchen", 1), (SATURDAY, "smartphone", 3)]
    assert found["hourly_price_by_event_type"] == [
        (friday, 12, "view", 1, Decimal(70), Decimal(70)),
        (SATURDAY, 0, "view", 3, Decimal("100.01"), Decimal("33.336667")),
        (SATURDAY, 1, "cart", 1, Decimal(100), Decimal(100)),
        (SATURDAY, 12, "purchase", 1, Decimal(50), Decimal(50)),
        (SATURDAY, 12, "view", 1, Decimal("5.55"), Decimal("5.55")),
        (SATURDAY, 23, "purchase", 1, Decimal(100), Decimal(100)),
    ]
    assert found["purchase_conversion_volume"] == [
        (friday, 6, "Friday", "view", 1),
        (SATURDAY, 7, "Saturday", "cart", 1),
        (SATURDAY, 7, "Saturday", "purchase", 2),
        (SATURDAY, 7, "Saturday", "view", 4),
    ]
    assert found["customer_purchases"] == [
        (SATURDAY, 7, 1, 1, Decimal(100)),
        (SATURDAY, 9, 1, 1, Decimal(50)),
    ]
    assert found["customer_value"] == [
        (SATURDAY, 7, SATURDAY, 0, 1, Decimal(100), 1, 1, 3),
        (SATURDAY, 9, SATURDAY, 0, 1, Decimal(50), 1, 1, 1),
    ]
    assert found["customer_retention"] == [(SATURDAY, date(2019, 10, 28), 0, False, 2, 2, 1.0, Decimal(150))]
    rates = reference_summaries([landed])["purchase_conversion_rate"]
    assert list(rates.iloc[:, :4].itertuples(index=False, name=None)) == [
        (friday, "kitchen", "view", 1),
        (SATURDAY, "kitchen", "purchase", 1),
        (SATURDAY, "smartphone", "cart", 1),
        (SATURDAY, "smartphone", "purchase", 1),
        (SATURDAY, "smartphone", "view", 3),
    ]
    assert rates.share_of_events.tolist() == [1, 1, 1 / 5, 1 / 5, 3 / 5]
    assert rates.purchases_per_view.tolist() == pytest.approx(
        [0, float("nan"), 1 / 3, 1 / 3, 1 / 3], nan_ok=True
    )


def test_the_summaries_of_sessions_products_and_revenue_are_those_computed_by_hand(landed: Path) -> None:
    summaries = reference_summaries([landed])

    def saturday(name: str, *columns: str) -> list[tuple[object, ...]]:
        frame = summaries[name].query("event_date == @SATURDAY")
        return list(frame[list(columns)].astype(object).itertuples(index=False, name=None))

    # Session a viewed, carted and bought product 1; b viewed; c viewed product 4 and bought product 5.
    ways = ("units", "viewed", "purchased", "view_cart_purchase", "view_purchase", "purchase_without_view")
    funnels = saturday("purchase_funnels", "scope", "unit", *ways)
    assert [row[1:] for row in funnels if row[0] == "shop"] == [
        ("session", 3, 3, 2, 1, 1, 0),
        ("session_product", 4, 3, 2, 1, 0, 1),
    ]
    carts = ("subcategory", "cart_hour", "carts", "cart_value", "abandoned_carts")
    assert saturday("cart_abandonment", *carts) == [("smartphone", 1, 1, Decimal(100), 0)]
    assert saturday("product_performance", "product_id", "views", "purchases", "revenue") == [
        (1, 1, 1, Decimal(100)),
        (2, 1, 0, Decimal(0)),
        (3, 1, 0, Decimal(0)),
        (4, 1, 0, Decimal(0)),
        (5, 0, 1, Decimal(50)),
    ]
    sessions = ("average_price_viewed", "viewing_sessions", "converted_sessions")
    brands = summaries["brand_performance"].query("event_date == @SATURDAY").set_index("brand")
    assert tuple(brands.loc["apple", list(sessions)]) == (Decimal(100), 1, 1)
    assert tuple(brands.loc["nan", list(sessions)]) == (Decimal("0.01"), 1, 0)
    assert saturday("top_brands_by_revenue", "place", "brand") == [(1, "apple"), (2, "brw")]
    assert saturday("top_products_by_revenue", "place", "product_id") == [(1, 1), (2, 5)]
    visits = ("user_session", "user_id", "seconds", "events", "revenue", "funnel", "steps")
    assert sorted(saturday("sessions", *visits)) == [
        ("a", 7, 86_399, 3, Decimal(100), "view_cart_purchase", 3),
        ("b", 7, 0, 1, Decimal(0), "view", 1),
        ("c", 9, 0, 2, Decimal(50), "view_purchase", 2),
    ]
    orders = ("orders", "buyers", "purchases", "revenue", "average_order_value")
    assert saturday("revenue_daily", *orders) == [(2, 2, 2, Decimal(150), Decimal(75))]


def test_a_change_of_revenue_is_that_since_the_same_weekday(tmp_path: Path) -> None:
    path = tmp_path / "2019-11-09" / "events.csv"
    path.parent.mkdir()
    bought = "{} 12:00:00 UTC,purchase,1,10,,,{},7,a\n"
    path.write_text(HEADER + bought.format("2019-11-02", 100) + bought.format("2019-11-09", 75))

    changes = reference_summaries([path])["revenue_daily"].revenue_change.tolist()
    assert changes == pytest.approx([float("nan"), -0.25], nan_ok=True)


def test_an_event_landed_on_two_days_is_counted_on_both_and_summed_up_once(tmp_path: Path) -> None:
    for day in ("2019-11-02", "2019-11-03"):
        (tmp_path / f"{day}-events.csv").write_text(HEADER + LINES.splitlines(keepends=True)[0])
    paths = sorted(tmp_path.iterdir())

    counts = landing_counts(paths)
    assert counts["distinct"].tolist() == [1, 1]
    assert counts["late"].tolist() == [0, 1]
    assert reference_summaries(paths)["daily_event_count"].events.tolist() == [1]


def test_an_export_lands_each_line_on_its_own_day_and_an_unreadable_one_with_the_line_before(
    tmp_path: Path,
) -> None:
    export = tmp_path / "2019-Nov.csv"
    export.write_text("rubbish\n" + LINES + "rubbish\n")

    counts = landing_counts([export]).set_index("landing_day")["read"]
    assert counts.to_dict() == {
        date(2019, 10, 25): 1,
        date(2019, 11, 1): 1,
        SATURDAY: 12,
        date(2019, 11, 3): 1,
    }
    assert landing_counts([export]).late.sum() == 0


@pytest.mark.parametrize("name", ["2019-11-02-events.csv.gz", "2019-11-02-events.zip"])
def test_compressed_files_are_read_alike(landed: Path, name: str) -> None:
    compressed = landed.with_name(name)
    if name.endswith(".gz"):
        compressed.write_bytes(gzip.compress(landed.read_bytes()))
    else:
        with zipfile.ZipFile(compressed, "w") as archive:
            archive.write(landed, "events.csv")

    assert compare(landing_counts([landed]), landing_counts([compressed])) == []


def test_columns_in_another_order_a_bom_carriage_returns_quotes_and_blank_lines_change_nothing(
    landed: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "2019-11-02-turned.csv"
    lines = [",".join(f'"{field}"' for field in reversed(line.split(","))) for line in LINES.splitlines()]
    header = ",".join(reversed(HEADER.strip().split(",")))
    turned.write_text("\ufeff" + "\r\n".join([header, *lines, "", ""]), newline="")

    assert compare(landing_counts([landed]), landing_counts([turned])) == []
    again = reference_summaries([turned])
    for name, frame in reference_summaries([landed]).items():
        assert compare(frame, again[name]) == [], name


def test_values_in_another_form_change_nothing(landed: Path, tmp_path: Path) -> None:
    other = tmp_path / "2019-11-02-other.csv"
    text = (
        LINES.replace(" 00:", "T00:")
        .replace(" UTC,view", "Z,view")
        .replace(" 23:59:59 UTC", " 23:59:59+00:00")
    )
    text = text.replace("2019-11-02 12:00:00 UTC,purchase", "2019-11-03T02:00:00.000+14:00,purchase")
    text = text.replace(",9,", ",9.0,").replace(",0.01,", ",0.0100000000,")
    text = text.replace("apple", "Apple ").replace(",brw,", ", BRW,").replace(",10,,", ",10,NULL,")
    other.write_text(HEADER + text.replace(",8,\n", ",8,NULL\n"))

    assert compare(landing_counts([landed]), landing_counts([other])) == []
    again = reference_summaries([other])
    for name, frame in reference_summaries([landed]).items():
        assert compare(frame, again[name]) == [], name


def test_the_counts_are_those_that_the_generator_knows(tmp_path: Path) -> None:
    day = date(2019, 11, 3)
    truth = write_landing_day(tmp_path, day, 20_000, 1, late_share=0.01, bad_share=0.02)
    (row,) = landing_counts([tmp_path / "2019-11-03" / "events.csv"]).to_dict("records")

    assert row == {
        "landing_day": day,
        "read": truth["rows"],
        **{name: truth[name] for name in ("accepted", "rejected", "distinct", "duplicates", "late")},
    }


def test_a_table_read_back_from_text_in_any_order_is_equal(landed: Path, tmp_path: Path) -> None:
    for name, frame in reference_summaries([landed]).items():
        frame.iloc[::-1].to_csv(tmp_path / f"{name}.csv", index=False)
        written = pd.read_csv(tmp_path / f"{name}.csv", dtype=str, keep_default_na=False)
        assert compare(frame, written) == [], name


def test_every_kind_of_difference_is_told_with_its_row_and_values(landed: Path) -> None:
    prices = reference_summaries([landed])["hourly_price_by_event_type"]
    rows = prices.to_dict("records")
    rows[1]["price_sum"] = Decimal("100.010000001")
    rows[2]["price_average"] = Decimal("100.000001")
    rows[3]["event_hour"] = 13
    off = pd.DataFrame([*rows, rows[5]], dtype=object)

    day = "event_date 2019-11-02"
    assert compare(prices, off) == [
        "1 rows repeat the key (event_date, event_hour, event_type) of another row",
        f"{day}, event_hour 0, event_type view: price_sum is 100.010000001; expected 100.010000000",
        f"{day}, event_hour 1, event_type cart: price_average is 100.000001; expected 100.000000",
        f"{day}, event_hour 12, event_type purchase is missing",
        f"{day}, event_hour 13, event_type purchase is not expected",
    ]
    assert compare(prices, prices.drop(columns="events"))[0].startswith("columns are event_date, event_hour")


@pytest.mark.parametrize(
    ("quotient", "average"),
    [
        ("100.01/3", "33.336667"),
        ("1/3", "0.333333"),
        ("0.0000004/1", "0.000000"),
        ("0.000001/2", "0.000001"),  # a half goes up
        ("0.000001499/3", "0.000000"),  # once: to 9 decimals it would be a half
        ("9.51/1001", "0.009500"),
        ("9999999999999999.99/3", "3333333333333333.330000"),
    ],
)
def test_an_average_is_rounded_once(quotient: str, average: str) -> None:
    assert str(reference._amount(quotient)) == average


def test_a_ratio_of_null_is_no_ratio_of_zero(landed: Path) -> None:
    rates = reference_summaries([landed])["purchase_conversion_rate"]

    (difference,) = compare(rates, rates.fillna({"purchases_per_view": 0}))
    assert "subcategory kitchen, event_type purchase: purchases_per_view is 0.0; expected None" in difference


def test_the_command_tells_a_verdict_for_each_table_and_fails_on_a_difference(
    landed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = tmp_path / "demo"
    demo.mkdir()
    for name, frame in reference_summaries([landed]).items():
        frame.to_csv(demo / f"{name}.csv", index=False)
    (day,) = landing_counts([landed]).astype(str).to_dict("records")
    day |= {"spanner_rows": 8, "bigquery_rows": 8}
    (demo / "result.json").write_text(json.dumps({"days": [day]}))

    assert reference.main(["--csv", str(landed), "--against", str(demo)]) == 0
    assert capsys.readouterr().out.count(": equal") == len(reference.SUMMARIES) + 1

    (demo / "result.json").write_text(json.dumps({"days": [day | {"bigquery_rows": 7}]}))
    assert reference.main(["--csv", str(landed), "--against", str(demo)]) == 1
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "DIFFERENCES" in line]
    assert told.startswith("days of result.json")
