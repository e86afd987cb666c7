import pytest

from beam_jobs.contract import COLUMN_NAMES, ContractError, header_columns, is_header

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


@pytest.mark.parametrize(
    "line",
    [
        "2019-11-01 00:00:00 UTC,view,1,2,,,3.00,4,",
        "2019-11-01 00:00:00 UTC,view,1,2,,price,3.00,4,",
        "",
        "\n",
        "no header\rand no CSV",
        '"',
        "\x00\x00",
    ],
)
def test_a_line_without_two_column_names_is_no_header(line: str) -> None:
    assert header_columns(line, "a.csv") is None


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
