import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.contract import (
    COLUMN_NAMES,
    MAX_LINE_BYTES,
    ContractError,
    header_columns,
    header_names,
    is_header,
)

HEADER = ",".join(COLUMN_NAMES)


def test_a_header_declares_the_column_order() -> None:
    shuffled = COLUMN_NAMES[::-1]
    assert header_columns(",".join(shuffled) + "\n", "a.csv") == shuffled


@pytest.mark.parametrize(
    "line",
    [
        HEADER + "\r\n",
        "\ufeff" + HEADER,
        ",".join(f'"{name}"' for name in COLUMN_NAMES),
        HEADER.replace(",", ", "),
    ],
    ids=["CRLF", "byte order mark", "quoted", "spaces"],
)
def test_a_header_is_recognised_however_it_is_written(line: str) -> None:
    assert header_columns(line, "a.csv") == COLUMN_NAMES


EVENT = "2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.00,4,s-1"


@pytest.mark.parametrize(
    "spelled",
    [str.upper, str.title, lambda name: name.title().replace("_", ""), lambda name: f" {name} "],
    ids=["upper", "title", "camel", "spaces"],
)
def test_a_header_is_recognised_in_any_letter_case(spelled: Callable[[str], str]) -> None:
    order = COLUMN_NAMES[::-1]
    line = ",".join(map(spelled, order))
    assert header_columns(line, "a.csv") == order
    assert header_names("\ufeff" + line + "\r\n") == order
    assert is_header(line.split(","))


@pytest.mark.parametrize(
    "line",
    [
        EVENT,
        "2019-11-01 00:00:00 UTC,view,1,2,,,3.00,4,",
        "2019-11-01 00:00:00 UTC,view,1,2,,price,3.00,4,",
        EVENT.replace("a.b,sony", "brand,price"),
        EVENT.replace("3.00", "cheap"),
        EVENT.replace("2019-11-01 00:00:00 UTC,view", "yesterday,click"),
        EVENT.replace("UTC,view,1", "UTC,,x"),
        EVENT.replace("2019-11-01 00:00:00 UTC,view,1,2", ",view,1,2.05E+18"),
        EVENT.replace("sony", '"so,ny"'),
        EVENT.replace("sony", 'so"ny'),
        EVENT.replace("sony", "so\rny\0"),
        EVENT + ",another",
        EVENT[:40],
        EVENT.replace("sony", "x" * 70_000)[:65_536],
        "2019-10-01T00:00:00.000Z,view,1000000.0,2.05301E+18,a.b,sony,10.00,9.0,",
    ],
)
def test_a_bad_event_is_still_an_event_and_no_header(line: str) -> None:
    assert header_columns(line, "a.csv") is None
    assert header_names(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "no header\rand no CSV",
        '"',
        "\x00\x00",
        ",,,,,,,,",
        ",".join(COLUMN_NAMES).replace(",", ";"),
        "time,type,product,category,code,make,cost,user,session",
        "zeit,typ,produkt,kategorie,code,marke,preis,kunde,sitzung",
        "view,view,view,view,view,view,view,view,view",
        EVENT.replace(",", ";"),
        EVENT.replace(",", "\t"),
    ],
)
def test_what_is_neither_event_nor_header_is_refused_by_name(line: str) -> None:
    with pytest.raises(
        ContractError,
        match=r"^gs://b/a\.csv: the first line is neither an event nor a header: .*Give",
    ):
        header_columns(line + "\n", "gs://b/a.csv")
    assert header_names(line) is None


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PAR1\x15\x04\x15\x10", "Parquet: export it as CSV"),
        (
            b"PK\x03\x04\0\0",
            "a workbook of Excel or another zip: save the sheet as CSV in UTF-8, or unpack it",
        ),
        (b"<!DOCTYPE html>", "a page of HTML, as a failed download leaves: get the file again"),
        (b'{"event_time": 1}', "JSON: publish it as messages, or export it as CSV"),
        (",".join(COLUMN_NAMES).encode("utf-16"), "text in UTF-16 or UTF-32: save it as UTF-8"),
    ],
)
def test_a_file_of_another_kind_is_named_as_such_without_its_bytes(content: bytes, kind: str) -> None:
    with pytest.raises(ContractError) as caught:
        header_columns(content.decode("utf-8", "replace"), "a.csv")
    told = str(caught.value)
    assert told.startswith(f"a.csv: the first line is neither an event nor a header. This is {kind}. Give ")


@pytest.mark.parametrize(
    "line",
    ["a" * MAX_LINE_BYTES, "event_time,price," + "x," * 30_000, "event_time,price," + "y" * 60_000],
    ids=["letters", "columns", "a name"],
)
def test_a_first_line_of_any_length_is_refused_at_once_and_in_few_words(line: str) -> None:
    began = time.process_time()
    with pytest.raises(ContractError) as caught:
        header_columns(line, "a.csv")
    assert time.process_time() - began < 5
    assert len(str(caught.value)) < 1000


@given(st.lists(st.sampled_from([*COLUMN_NAMES, "eventTime", "USER_ID", "brand_name", "", "colour"])))
def test_no_names_are_ever_taken_for_an_event(names: list[str]) -> None:
    try:
        columns = header_columns(",".join(names), "a.csv")
    except ContractError:
        return
    assert columns is not None
    assert sorted(columns) == sorted(COLUMN_NAMES)


def test_extra_columns_are_an_error_that_names_them() -> None:
    with pytest.raises(
        ContractError, match=r"^gs://b/a\.csv: the header has extra columns 'colour', 'size'\. Give"
    ):
        header_columns(HEADER + ",colour,size", "gs://b/a.csv")


def test_missing_and_repeated_columns_are_an_error_that_names_them() -> None:
    line = HEADER.replace("brand,price", "user_id")
    with pytest.raises(ContractError, match=r"missing columns brand, price; repeated columns user_id\. Give"):
        header_columns(line, "a.csv")


def test_a_later_line_is_a_header_when_it_holds_all_names_in_any_order() -> None:
    assert is_header(COLUMN_NAMES[::-1])
    assert not is_header([*COLUMN_NAMES[:-1], "brand"])
