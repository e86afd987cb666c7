"""The generated days against the published figures of November 2019, written here once more."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from beam_jobs import contract
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from local.events import generate as generate_events
from local.events.generate import day_events, generate_day, write_landing_day

DAY = dt.date(2019, 11, 2)
SEED = 7
MONTH = [dt.date(2019, 11, number) for number in range(1, 31)]
MONTH_MEAN_EVENTS = 10_000

ROWS = 67_501_979
VIEWS, CARTS, PURCHASES = 63_556_110, 3_028_930, 916_939

STANDARD_ERRORS = 4
"""How far a share may be from the published one. A seed gives the same days, so no test fails by chance."""
SESSION_EFFECT = 10
"""Events of a session look alike (same product, same category), so that n events tell as much as
n / SESSION_EFFECT independent ones about products, brands, categories and prices."""
TYPE_EFFECT = 1.5
"""The same for event types, which a session hardly decides."""


@pytest.fixture(scope="module")
def month() -> pd.DataFrame:
    """November 2019 in little: 300,000 events over 30 days, large and small as in the shop."""
    days = [_frame(_csv(generate_day(day, day_events(day, MONTH_MEAN_EVENTS), SEED))) for day in MONTH]
    return pd.concat(days, ignore_index=True)


@pytest.fixture(scope="module")
def products() -> pd.DataFrame:
    """The catalogue, with each product's share of journeys."""
    catalogue = generate_events.catalogue()
    count = len(catalogue.category)
    names = ["product_id", "category_id", "category_code", "brand", "price", "nothing"]
    frame = pd.DataFrame(
        [text.split(",") for text in catalogue.texts[:count].to_pylist()], columns=names
    ).drop(columns="nothing")
    until = pd.Series(catalogue.popularity_until)
    return frame.assign(share=until.diff().fillna(until[0]))


def test_a_day_passes_the_contract() -> None:
    lines = _csv(generate_day(DAY, 2000, SEED)).split(b"\n")

    assert lines.pop() == b"", "the last line ends with a newline"
    assert contract.header_columns(lines[0].decode(), "generated") == contract.COLUMN_NAMES
    assert b"\r" not in b"".join(lines)
    events = _frame(b"\n".join(lines))
    assert len(events) == 2000
    assert events.event_time.str.fullmatch(r"2019-11-02 \d\d:\d\d:\d\d UTC").all()
    assert events.event_time.is_monotonic_increasing
    assert events.price.str.fullmatch(r"\d+\.\d\d").all()
    assert set(events.event_type) <= set(contract.EVENT_TYPES)
    for column in ("product_id", "category_id", "user_id"):
        assert events[column].str.fullmatch(r"[1-9]\d{0,18}").all()
    assert events.user_session.str.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    ).all()
    assert events.category_code.str.fullmatch(r"|[a-z_]+(\.[a-z_]+){1,3}").all()


@pytest.mark.parametrize("events", [0, 1, 10, 777])
def test_a_day_has_exactly_as_many_rows_as_asked_for(events: int) -> None:
    chunks = list(generate_day(DAY, events, SEED, late_share=0.1, bad_share=0.1))
    lines = b"".join(chunk.csv for chunk in chunks).splitlines()

    assert len(lines) == 1 + events
    assert sum(chunk.counts.rows for chunk in chunks) == events


def test_the_same_arguments_give_the_same_bytes_whatever_was_generated_before() -> None:
    first = _csv(generate_day(DAY, 3000, SEED, late_share=0.01, bad_share=0.01))
    list(generate_day(DAY + dt.timedelta(1), 1000, SEED))

    assert _csv(generate_day(DAY, 3000, SEED, late_share=0.01, bad_share=0.01)) == first
    assert _csv(generate_day(DAY, 3000, SEED + 1, late_share=0.01, bad_share=0.01)) != first
    assert _csv(generate_day(DAY + dt.timedelta(1), 3000, SEED)) != first


def test_memory_does_not_grow_with_the_day() -> None:
    program = (
        "import datetime as dt\n"
        "from local.events.generate import generate_day\n"
        "def peak(events):\n"
        "    for chunk in generate_day(dt.date(2019, 11, 2), events): pass\n"
        # Not getrusage's ru_maxrss, in which the process that started this one is seen too.
        "    status = open('/proc/self/status').read()\n"
        "    return int(status.partition('VmHWM:')[2].split()[0]) // 1024\n"
        "print(peak(500_000), peak(2_000_000))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    quarter_mebibytes, whole_mebibytes = map(int, ran.stdout.split())

    # The two million rows are 255 MiB of text.
    assert whole_mebibytes < 450
    assert whole_mebibytes - quarter_mebibytes < 100


def test_event_types_have_the_published_shares(month: pd.DataFrame) -> None:
    shares = month.event_type.value_counts(normalize=True)

    for event_type, published in (("view", VIEWS), ("cart", CARTS), ("purchase", PURCHASES)):
        _assert_share(shares[event_type], published / ROWS, len(month), TYPE_EFFECT)


def test_days_have_the_published_weights_and_purchases(month: pd.DataFrame) -> None:
    by_day = pd.crosstab(month.event_time.str[:10], month.event_type)
    scale = 30 * MONTH_MEAN_EVENTS / ROWS

    assert by_day.loc["2019-11-15", "purchase"] == 0
    for day, views in (("01", 1_400_000), ("14", 2_880_000), ("16", 6_030_000), ("17", 5_780_000)):
        assert by_day.loc[f"2019-11-{day}", "view"] == pytest.approx(views * scale, rel=0.02)
    for day, purchases in (("16", 68_247), ("17", 185_195), ("29", 32_107)):
        expected = purchases * scale
        error = STANDARD_ERRORS * math.sqrt(expected * TYPE_EFFECT)
        assert by_day.loc[f"2019-11-{day}", "purchase"] == pytest.approx(expected, abs=error)


def test_weekdays_have_the_published_views_and_carts(month: pd.DataFrame) -> None:
    # Sunday to Saturday.
    views = (10_655_259, 7_060_674, 6_758_308, 6_728_150, 7_768_675, 12_138_186, 12_444_980)
    carts = (586_851, 251_754, 233_132, 235_121, 337_040, 742_195, 642_764)
    weekday = pd.to_datetime(month.event_time.str[:10]).dt.day_of_week
    found = pd.crosstab((weekday + 1) % 7, month.event_type)

    for number in range(7):
        assert found["view"][number] / found["view"].sum() == pytest.approx(views[number] / VIEWS, rel=0.01)
        expected = carts[number] * 30 * MONTH_MEAN_EVENTS / ROWS
        error = STANDARD_ERRORS * math.sqrt(expected * TYPE_EFFECT)
        assert found["cart"][number] == pytest.approx(expected, abs=error)


def test_a_day_of_another_month_is_like_an_ordinary_november_day_of_its_weekday() -> None:
    friday = generate_events.day_shape(dt.date(2024, 3, 1))

    assert friday.views == pytest.approx(1_600_000, rel=0.02)
    assert friday.purchases == pytest.approx((22_458 + 25_714 + 24_187 + 32_107) / 4, abs=1)
    assert len(_frame(_csv(generate_day(dt.date(2024, 2, 29), 100, SEED)))) == 100


def test_hours_are_quiet_and_busy_as_published(month: pd.DataFrame) -> None:
    hour = month.event_time.str[11:13].astype(int)
    busiest_first = list(hour.value_counts().index)

    assert set(busiest_first[:5]) == {13, 14, 15, 16, 17}
    assert set(busiest_first[-5:]) == {21, 22, 23, 0, 1}
    views = month.event_type == "view"
    view_prices = month.price.astype(float)[views].groupby(hour[views]).sum()
    # 0.13 and 1.24 of 18.59 thousand millions; the first over some 2,000 events only.
    assert view_prices[0] / view_prices.sum() == pytest.approx(0.13 / 18.59, rel=0.25)
    assert view_prices[16] / view_prices.sum() == pytest.approx(1.24 / 18.59, rel=0.08)


@pytest.mark.parametrize(
    ("subcategory", "published_views"),
    [
        ("smartphone", 14_831_874),
        ("kitchen", 5_580_606),
        ("shoes", 2_353_085),
        ("audio", 2_193_080),
        ("notebook", 2_102_974),
        ("video", 2_093_688),
        ("environment", 2_009_333),
        ("clocks", 1_994_394),
        ("accessories", 1_164_246),
        ("living_room", 1_043_209),
    ],
)
def test_subcategories_have_the_published_views(
    month: pd.DataFrame, products: pd.DataFrame, subcategory: str, published_views: int
) -> None:
    views = month[month.event_type == "view"]
    found = (_subcategory(views) == subcategory).mean()
    _assert_share(found, published_views / VIEWS, len(views), SESSION_EFFECT)
    drawn_from = products.share[_subcategory(products) == subcategory].sum()
    assert drawn_from == pytest.approx(published_views / VIEWS, rel=1e-6)


def test_no_other_subcategory_is_among_the_ten_most_viewed(products: pd.DataFrame) -> None:
    by_subcategory = products.groupby(_subcategory(products)).share.sum()
    assert by_subcategory.nlargest(10).index[-1] == "living_room"


@pytest.mark.parametrize(
    ("subcategory", "published"),
    [
        ("smartphone", (0.9058, 0.0708, 0.0234)),
        ("kitchen", (0.9496, 0.0394, 0.0110)),
        ("shoes", (0.9749, 0.0199, 0.0052)),
        ("notebook", (0.9644, 0.0271, 0.0085)),
        ("audio", (0.9184, 0.0623, 0.0194)),
    ],
)
def test_top_subcategories_have_the_published_shares_of_types(
    month: pd.DataFrame, subcategory: str, published: tuple[float, float, float]
) -> None:
    types = month.event_type[_subcategory(month) == subcategory]

    for event_type, share in zip(contract.EVENT_TYPES, published, strict=True):
        _assert_share((types == event_type).mean(), share, len(types), TYPE_EFFECT)


@pytest.mark.parametrize(
    ("brand", "published_rows"),
    [
        ("samsung", 7_890_000),
        ("apple", 6_260_000),
        ("xiaomi", 4_640_000),
        ("huawei", 1_410_000),
        ("", 9_218_235),
    ],
)
def test_brands_have_the_published_shares(month: pd.DataFrame, brand: str, published_rows: int) -> None:
    _assert_share((month.brand == brand).mean(), published_rows / ROWS, len(month), SESSION_EFFECT)


def test_the_brand_named_nan_is_there_as_seldom_as_published(products: pd.DataFrame) -> None:
    # Not from the events: 300,000 have some 26 of it. Its products have a bit more views than events.
    assert products.share[products.brand == "nan"].sum() == pytest.approx(5_843 / ROWS, rel=0.02)


def test_as_many_events_as_published_have_no_category_code(month: pd.DataFrame) -> None:
    _assert_share((month.category_code == "").mean(), 21_898_171 / ROWS, len(month), SESSION_EFFECT)


def test_the_line_of_an_event_without_session_ends_after_a_comma() -> None:
    # Ten of 67.5 million events have none: too few to meet here, so one is made.
    whole, name = np.zeros(1, np.int64), np.zeros(1, np.uint64)
    events = generate_events._Events(whole, whole, whole, whole, name, name, whole)
    (line,) = generate_events._lines(DAY, events).to_pylist()

    assert line.startswith("2019-11-02 00:00:00 UTC,view,")
    assert line.endswith(",0,\n")


def test_prices_have_the_published_distribution(month: pd.DataFrame) -> None:
    price = month.price.astype(float)
    error = STANDARD_ERRORS * price.std() * math.sqrt(SESSION_EFFECT / len(month))

    assert price.mean() == pytest.approx(292.46, abs=error)
    assert price.median() == pytest.approx(169.35, rel=0.06)
    assert price.min() == 0
    assert price.max() == 2574.07


def test_a_price_of_0_is_viewed_and_put_in_carts_but_never_bought(month: pd.DataFrame) -> None:
    free = month.event_type[month.price == "0.00"].value_counts()

    assert set(free.index) == {"view", "cart"}
    _assert_share(free["view"] / (month.event_type == "view").sum(), 183_680 / VIEWS, len(month), TYPE_EFFECT)
    _assert_share(free["cart"] / (month.event_type == "cart").sum(), 4_408 / CARTS, 13_000, TYPE_EFFECT)


def test_exact_duplicates_are_as_many_as_published_and_counted(month: pd.DataFrame) -> None:
    chunks = list(generate_day(DAY, 40_000, SEED))
    events = _frame(b"".join(chunk.csv for chunk in chunks))
    found = events.duplicated().sum()

    assert found == sum(chunk.counts.duplicates for chunk in chunks) == round(40_000 * 100_519 / ROWS)
    assert month.duplicated().mean() == pytest.approx(100_519 / ROWS, rel=0.02)


def test_the_catalogue_has_the_published_size(products: pd.DataFrame) -> None:
    assert products.product_id.nunique() == len(products) == 190_662
    assert products.category_id.nunique() == 684
    assert products.category_code[products.category_code != ""].nunique() == 129
    assert products.brand[products.brand != ""].nunique() == 4_201
    depths = Counter(code.count(".") + 1 for code in products.category_code.unique() if code)
    assert set(depths) == {2, 3, 4}
    assert depths[4] < 5


def test_a_category_id_has_one_code_and_a_product_one_brand_category_and_price(month: pd.DataFrame) -> None:
    assert (month.groupby("category_id").category_code.nunique() == 1).all()
    priced = month[month.price != "0.00"]
    assert (priced.groupby("product_id")[["category_id", "brand", "price"]].nunique() == 1).all().all()


def test_popularity_is_uneven_as_in_a_shop(month: pd.DataFrame) -> None:
    shares = month.product_id.value_counts(normalize=True)

    assert 0.003 < shares.iloc[0] < 0.02
    assert shares.iloc[:1000].sum() > 0.25
    assert len(shares) > 50_000


def test_who_carts_has_viewed_and_who_buys_has_viewed_and_perhaps_carted_before(month: pd.DataFrame) -> None:
    """In file order, within one session and product."""
    journey = ["user_session", "product_id"]
    events = month.drop_duplicates().reset_index(drop=True)
    carts = events.event_type == "cart"
    purchases = events.event_type == "purchase"
    viewed_before = (events.event_type == "view").groupby([events[name] for name in journey]).cummax()
    carted_before = carts.groupby([events[name] for name in journey]).cummax()

    assert viewed_before[carts | purchases].all()
    # A later journey of the session to the same product may have carted it: a bit above the 60 % set.
    assert 0.5 < carted_before[purchases].mean() < 0.75


def test_a_session_has_as_many_events_as_published_and_seldom_two_users(month: pd.DataFrame) -> None:
    sessions = month.groupby("user_session").agg(events=("user_id", "size"), users=("user_id", "nunique"))

    assert sessions.events.mean() == pytest.approx(ROWS / 13_776_050, rel=0.03)
    assert 0.2 < (sessions.events == 1).mean() < 0.5
    assert (sessions.users > 1).sum() == pytest.approx(591 / 13_776_050 * len(sessions), abs=6)


def test_customers_come_back(month: pd.DataFrame) -> None:
    sessions_per_user = month.groupby("user_id").user_session.nunique()

    assert sessions_per_user.mean() == pytest.approx(13_776_050 / 3_696_117, rel=0.2)
    of_a_day = _frame(_csv(generate_day(DAY, 20_000, SEED)))
    assert (of_a_day.groupby("user_id").user_session.nunique() > 1).mean() > 0.05


def test_late_sessions_are_of_the_days_before_and_counted() -> None:
    chunks = list(generate_day(DAY, 20_000, SEED, late_share=0.02))
    events = _frame(b"".join(chunk.csv for chunk in chunks))
    days = events.event_time.str[:10].value_counts()

    assert set(days.index) == {"2019-10-30", "2019-10-31", "2019-11-01", "2019-11-02"}
    late = sum(chunk.counts.late for chunk in chunks)
    assert late == len(events) - days["2019-11-02"]
    assert late / len(events) == pytest.approx(0.02, rel=0.5)
    assert (events.groupby("user_session").event_time.agg(lambda times: times.str[:10].nunique()) == 1).all()


def test_late_days_bounds_how_late_sessions_are() -> None:
    events = _frame(_csv(generate_day(DAY, 20_000, SEED, late_share=0.02, late_days=1)))

    assert set(events.event_time.str[:10]) == {"2019-11-01", "2019-11-02"}


def test_bad_rows_are_as_many_as_asked_for_over_all_reasons_that_a_file_can_earn() -> None:
    counts = _counts(generate_day(DAY, 20_000, SEED, bad_share=0.003))

    assert counts["rejected"] == 60
    not_in_files = {"bad_json", "several_lines", "refused_by_spanner", "refused_by_bigquery"}
    assert set(counts["rejected_by_reason"]) == set(contract.REASONS) - not_in_files
    assert counts["accepted"] + counts["rejected"] == counts["rows"] == 20_000
    assert counts["distinct"] + counts["duplicates"] == counts["accepted"]


def test_each_bad_row_is_rejected_for_the_reason_that_it_was_made_for() -> None:
    chunks = list(generate_day(DAY, 20_000, SEED, late_share=0.01, bad_share=0.03))
    text = b"".join(chunk.csv for chunk in chunks).removeprefix(generate_events.HEADER)
    judged = validate(parse_block(Block(text, 0), contract.COLUMN_NAMES), DAY)

    counts = _counts(iter(chunks))
    assert Counter(judged.rejected["reason"].to_pylist()) == counts["rejected_by_reason"]
    assert len(judged.accepted) == counts["accepted"]
    assert pc.count_distinct(judged.accepted["event_id"]).as_py() == counts["distinct"]
    assert sum(day < DAY for day in judged.accepted["event_date"].to_pylist()) == counts["late"]


def test_a_landed_day_is_whole_before_success_is_there_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_landing_day(tmp_path, DAY, 50, SEED)
    counts = write_landing_day(tmp_path, DAY, 100, SEED, gzipped=True)

    landing = tmp_path / "2019-11-02"
    assert sorted(path.name for path in landing.iterdir()) == ["_SUCCESS", "events.csv.gz"]
    assert counts["rows"] == 100
    assert gzip.decompress((landing / "events.csv.gz").read_bytes()) == _csv(generate_day(DAY, 100, SEED))


def test_gzipped_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_landing_day(tmp_path / folder, DAY, 100, SEED, gzipped=True)

    first, second = sorted(tmp_path.rglob("*.gz"))
    assert first.read_bytes() == second.read_bytes()


def test_the_command_writes_days_and_what_they_hold(tmp_path: Path) -> None:
    counts_file = tmp_path / "counts.json"
    arguments = ["--events", "2000", "--late-share", "0.05", "--bad-share", "--counts", str(counts_file)]
    assert generate_events.main([*arguments, "--out", str(tmp_path)]) == 0

    held = json.loads(counts_file.read_text())
    assert [day["landing_day"] for day in held] == ["2019-11-01", "2019-11-02", "2019-11-03"]
    assert [day["rejected"] for day in held] == [6, 6, 6]
    assert held[0]["late"] == 0, "no day of this run is before the first"
    lines = (tmp_path / "2019-11-02" / "events.csv").read_bytes().splitlines()
    assert sum(line.startswith(b"2019-11-01 ") for line in lines) == pytest.approx(held[1]["late"], abs=6)


def test_an_export_holds_all_days_under_one_header(tmp_path: Path) -> None:
    export = tmp_path / "2019-Nov.csv"
    assert generate_events.main(["--days", "3", "--events", "500", "--out", str(export)]) == 0

    lines = export.read_text().splitlines()
    assert len(lines) == 1 + 3 * 500
    assert sum(line.startswith("event_time") for line in lines) == 1
    assert lines[1:] == sorted(lines[1:], key=lambda line: line[:19])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--events", "-1"), "events is -1; give 0 or more"),
        (("--seed", "-1"), "seed is -1; give 0 or more"),
        (("--bad-share", "0.9"), "bad_share is 0.9; give a share from 0 to 0.5"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(
    option: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate_events.main([*option, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def _csv(chunks: Iterator[generate_events.Chunk]) -> bytes:
    return b"".join(chunk.csv for chunk in chunks)


def _counts(chunks: Iterator[generate_events.Chunk]) -> dict:
    return sum((chunk.counts for chunk in chunks), generate_events.Counts()).as_dict()


def _frame(text: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False)


def _subcategory(events: pd.DataFrame) -> pd.Series:
    """The second level of the category code, NaN without one; each code is split once."""
    second = {code: code.split(".")[1] for code in events.category_code.unique() if code}
    return events.category_code.map(second)


def _assert_share(found: float, published: float, events: int, effect: float) -> None:
    standard_error = math.sqrt(published * (1 - published) * effect / events)
    assert found == pytest.approx(published, abs=STANDARD_ERRORS * standard_error)
