"""Whom a run is about, and which lines are theirs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager, storage
from requests import Response

from beam_jobs.contract import COLUMN_NAMES
from shopstream.forget.customers import (
    Customers,
    Key,
    is_theirs,
    is_told_of,
    mentions,
    read_customers,
    read_key,
    spans,
)
from shopstream.retries import Refused
from tests.dags.shop import line

ID = 520088904
MANY = frozenset(range(10**12, 10**12 + 50))


@pytest.mark.parametrize(
    "text",
    [
        "520088904",
        "view,520088904,x",
        '"520088904"',
        "00520088904.00",
        '{"user_id":520088904}',
        '{"user_id": 520088904, "price": 1}',
        "user_id is '520088904'.",
        "the customer is 520088904.",
        "a\n520088904\nb",
        "x,520088904,1520088904",
        "0" * 5_000 + "520088904",
        "7" * 5_000 + ",520088904",
    ],
)
def test_a_number_is_found_where_it_stands_as_a_whole_one(text: str) -> None:
    assert mentions(text.encode(), [7, ID])
    assert mentions(text.encode(), MANY | {ID})
    assert not mentions(text.encode(), MANY)


@pytest.mark.parametrize(
    ("text", "user_id"),
    [
        ("1520088904", ID),
        ("5200889041", ID),
        ("520088904.5", ID),
        ("489.520088904", ID),
        ("a520088904", ID),
        ("520088904a", ID),
        ("2019-11-05 10:07:05 UTC", 5),
        ("2019-11-05T10:07:05+02:00", 2019),
        ("2019-11-05T10:07:05+02:00", 10),
        ("4d3b30da-5-49df", 5),
        ("12.5", 12),
        ("7" * 5_000 + f"{ID}", ID),
        (f"1{ID:019d}", ID),
        (f"{ID}" + "0" * 5_000, ID),
    ],
)
def test_a_number_is_not_found_in_a_longer_one_a_word_or_a_time(text: str, user_id: int) -> None:
    assert not mentions(text.encode(), [user_id])
    assert not mentions(text.encode(), MANY | {user_id})


def test_the_smallest_and_the_greatest_number_are_found_as_any_other_and_each_where_it_stands() -> None:
    greatest = 2**63 - 1
    text = f"0,00.0,{greatest},{greatest + 1},1{greatest},00{greatest}.0\n{ID}".encode()
    for others in (frozenset[int](), MANY):
        found = [text[start:end] for start, end in spans(text, {0, greatest, ID} | others)]
        assert found == [b"0", b"00.0", b"%d" % greatest, b"00%d.0" % greatest, b"%d" % ID]


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        (line(1, user_id=ID), True),
        (line(1, user_id=f"0{ID}.00"), True),
        (line(1, user_id=f'"{ID}"'), True),
        (line(1, user_id=ID, brand='"a, b"'), True),
        (line(1, user_id=ID, price="free"), True),
        # Somebody else's, of a product that has the same number.
        (line(1, user_id=7, product_id=ID), False),
        (line(1, user_id=7, product_id=ID, event_time="never"), False),
        # Nobody can tell whose these are.
        (line(1, user_id="", product_id=ID), True),
        (line(1, user_id="7e3", product_id=ID), True),
        (f"{ID},view\n", True),
        (line(1, user_id=7, product_id=ID, brand='"open'), True),
    ],
)
def test_a_line_is_theirs_by_its_user_id_and_where_it_has_none_by_any_number(text: str, theirs: bool) -> None:
    assert mentions(text.encode(), [ID])
    assert is_theirs(text.encode(), COLUMN_NAMES, {ID}) == theirs


@pytest.mark.parametrize(
    "text",
    [
        '{"user_id":"\\t520088904","price":"x"}',
        '{"user_id":"\\u0035\\u00320088904"}',
        ' {"user_id":5.20088904e8}',
        '{"user_id":52008890.4E+1}',
        '\ufeff{"user_id":5200889040e-1,"event',
        '{"user_id":"520088904',
        '{"brand":"a\\\\","user_id":"\\u0020520088904"}',
    ],
)
def test_a_number_is_found_in_json_however_it_is_written_there(text: str) -> None:
    for others in (frozenset[int](), MANY):
        assert is_told_of([b"", text.encode()], {ID} | others)
        assert not is_told_of([text.encode()], {7} | others)


@pytest.mark.parametrize(
    "text",
    [
        '{"user_id":"\\\\t520088904"}',
        '{"user_id":5.200889041e8}',
        '{"user_id":5.20088904e9}',
        '{"user_id":1e999999999,"price":1e99999999999999999999,"a":0.520088904e-999999999}',
        '{"user_session":"5.20088904e8a"}',
        # No JSON.
        "\\t520088904,5.20088904e8",
    ],
)
def test_another_number_in_json_is_not_taken_for_it(text: str) -> None:
    assert not is_told_of([text.encode()], {ID})


def test_columns_may_stand_in_any_order() -> None:
    columns = ("user_id", *(name for name in COLUMN_NAMES if name != "user_id"))
    assert is_theirs(b"520088904,a,b,c,d,e,f,g,h\n", columns, {ID})
    assert not is_theirs(b"7,520088904,b,c,d,e,f,g,h\n", columns, {ID})


def read(client: Any, bucket: str, generation: int | None = None, **params: Any) -> Customers:
    return read_customers(client, bucket, {"user_id": None, "customers": None} | params, generation)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "either user_id or customers"),
        ({"user_id": "7", "customers": "forget/a.txt"}, "either user_id or customers"),
        ({"user_id": "9223372036854775808"}, "user_id is no whole number"),
        ({"user_id": "-7"}, "user_id is no whole number"),
        ({"customers": "landing/a.csv"}, "give an object such as forget/2019-11-08.txt"),
        ({"customers": "forget/../a.csv"}, "give an object such as"),
    ],
)
def test_a_form_that_does_not_say_whom_is_refused_without_naming_anybody(
    params: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused, match=words) as caught:
        read_customers(None, "b", {"user_id": None, "customers": None} | params)
    assert "9223372036854775808;" not in str(caught.value)


def test_one_user_id_is_a_customer_whom_no_text_shows() -> None:
    customers = read(None, "b", user_id="520088904")
    assert customers == Customers(frozenset([ID]), None)
    assert "520088904" not in repr(customers)


@pytest.mark.integration
def test_a_list_is_read_in_the_one_generation_that_was_counted(bucket: storage.Bucket) -> None:
    client, name = bucket.client, "forget/a.txt"
    with pytest.raises(Refused, match=r"does not exist\. Upload it"):
        read(client, bucket.name, customers=name)
    bucket.blob(name).upload_from_string("7\r\n\n 520088904\n7\n")
    customers = read(client, bucket.name, customers=name)
    assert customers.ids == {7, ID}
    assert read(client, bucket.name, customers.generation, customers=name) == customers

    bucket.blob(name).upload_from_string("8\n")
    with pytest.raises(Refused, match="was written anew since this run has counted"):
        read(client, bucket.name, customers.generation, customers=name)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7\n520088904x\n", r"line 2 is no user_id"),
        ("\n", "lists 0 customers"),
        ("\n".join(map(str, range(1001))), "lists 1,001 customers; give 1 to 1,000"),
        ("7" * (2**20 + 1), "1,048,577 bytes"),
    ],
)
def test_a_list_that_is_not_understood_is_refused_by_the_line_and_names_nobody(
    bucket: storage.Bucket, text: str, words: str
) -> None:
    bucket.blob("forget/a.txt").upload_from_string(text)
    with pytest.raises(Refused, match=words) as caught:
        read(bucket.client, bucket.name, customers="forget/a.txt")
    assert "520088904" not in str(caught.value)


def test_a_hash_is_that_of_rfc_2104_and_tells_nobody_without_the_key() -> None:
    # openssl: printf 520088904 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    key = Key("k", b"0123456789abcdef0123456789abcdef")
    assert key.hash(ID) == "fba3edc6fcf47a03442ed9d4edea8e67570e7624a38b1ff392f1f36c1cfa12d0"
    assert Key("k", b"another").hash(ID) != key.hash(ID)
    assert "0123456789" not in repr(key)


def test_a_key_is_read_from_a_file_and_a_short_or_missing_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "forget.key"
    file.write_bytes(b"0123456789abcdef0123456789abcdef\n")
    assert read_key(str(file)) == Key("forget.key", b"0123456789abcdef0123456789abcdef")
    file.write_bytes(b"0123456789abcdef\n")
    with pytest.raises(Refused, match="holds 16 bytes, which can be guessed"):
        read_key(str(file))
    for setting in (None, "projects/p/secrets/s", str(tmp_path / "none.key")):
        with pytest.raises(Refused, match=r"SHOPSTREAM_FORGET_KEY is .*; name a version of a secret"):
            read_key(setting)


def test_a_key_in_secret_manager_is_known_by_the_version_that_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.providers.google.cloud.hooks.secret_manager import GoogleCloudSecretManagerHook

    def google(method: str, url: str, **options: Any) -> Response:
        assert url.endswith("/v1/projects/p/secrets/s/versions/latest:access")
        response = Response()
        response.status_code = 200
        data = base64.b64encode(b"0123456789abcdef" * 2).decode()
        answer = {"name": "projects/1/secrets/s/versions/3", "payload": {"data": data}}
        response._content = json.dumps(answer).encode()
        return response

    client = secretmanager.SecretManagerServiceClient(credentials=AnonymousCredentials(), transport="rest")
    monkeypatch.setattr(client.transport._session, "request", google)
    monkeypatch.setattr(GoogleCloudSecretManagerHook, "client", client)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "google-cloud-platform://")
    key = read_key("projects/p/secrets/s/versions/latest")
    assert key == Key("projects/1/secrets/s/versions/3", b"0123456789abcdef" * 2)
