"""Customers under pseudonyms: the same by every way, others by another key, and no id in any reject."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager
from hypothesis import given
from hypothesis import strategies as st
from requests import Response

from beam_jobs.contract import COLUMN_NAMES, INT64_MAX
from beam_jobs.identity import event_id
from beam_jobs.lines import Block, past_bom
from beam_jobs.messages import Message, judge
from beam_jobs.parse import parse_block
from beam_jobs.pseudonyms import (
    PseudonymKeyError,
    Pseudonyms,
    check_key_name,
    is_masked,
    masked,
    masked_detail,
    pseudonyms_by,
)
from beam_jobs.rejected import batch_envelopes, stream_envelope
from beam_jobs.validate import validate
from tests.bad_input import FIELDS, FILES, line

DAY = date(2019, 11, 1)
NOW = datetime(2019, 11, 2, tzinfo=UTC)
KEY = b"0123456789abcdef0123456789abcdef"
OURS, THEIRS = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
USER, SESSION = 520088904, "4d3b30da-a5e4-49df-b1a8-ba5943f1dd33"


def events_of(data: bytes, pseudonyms: Pseudonyms | None) -> list[dict[str, Any]]:
    return validate(parse_block(Block(data, 0), COLUMN_NAMES), DAY, pseudonyms).accepted.to_pylist()


def test_a_pseudonym_is_what_hmac_sha256_makes_of_the_id_by_the_key() -> None:
    # By openssl dgst -sha256 -hmac, of user_id or user_session, U+001F and the value.
    assert OURS.user(USER) == 0x6F3291D28A85E100 >> 1
    assert OURS.session(SESSION) == "cdfae403-5be8-cd4f-3b62-0a1769ef7965"
    assert THEIRS.user(USER) != OURS.user(USER)
    assert THEIRS.session(SESSION) != OURS.session(SESSION)
    assert OURS.session(str(USER))[:8] != f"{OURS.user(USER) << 1:016x}"[:8]


def test_a_whole_column_has_the_pseudonyms_of_its_values_and_nothing_stays_nothing() -> None:
    ids = [USER, 0, INT64_MAX, USER, 7]
    assert OURS.users(pa.array(ids)).to_pylist() == [OURS.user(user_id) for user_id in ids]
    sessions = [SESSION, None, "s-1", SESSION]
    assert OURS.sessions(pa.array(sessions, pa.string())).to_pylist() == [
        text and OURS.session(text) for text in sessions
    ]
    assert OURS.users(pa.array([], pa.int64())).to_pylist() == []
    assert OURS.sessions(pa.array([None, None], pa.string())).to_pylist() == [None, None]


def test_different_customers_have_different_pseudonyms_which_the_contract_takes() -> None:
    pseudonyms = OURS.users(pa.array(range(100_000)))
    assert len(pseudonyms.unique()) == 100_000
    assert pc.min(pseudonyms).as_py() >= 0
    assert pc.max(pseudonyms).as_py() > 2**62


def test_an_event_is_the_same_but_for_its_pseudonyms_and_its_id_is_made_of_these() -> None:
    data = line(user_id=str(USER), user_session=SESSION) + line(user_session="") + line(price="free") + line()
    plain, hashed = events_of(data, None), events_of(data, OURS)
    assert len(plain) == len(hashed) == 3
    for before, after in zip(plain, hashed, strict=True):
        assert after["user_id"] == OURS.user(before["user_id"])
        assert after["user_session"] == (before["user_session"] and OURS.session(before["user_session"]))
        assert after["event_id"] == event_id(**{name: after[name] for name in COLUMN_NAMES})
        same = ("user_id", "user_session", "event_id")
        assert {name: after[name] for name in after if name not in same} == {
            name: before[name] for name in before if name not in same
        }


def test_the_same_customer_is_the_same_pseudonym_by_batch_and_by_stream_in_whatever_form() -> None:
    texts = FIELDS | {"user_id": str(USER), "user_session": SESSION}
    forms = [
        line(**texts).rstrip(),
        json.dumps(texts | {"user_id": USER}).encode(),
        line(**texts | {"user_id": f"{USER}.0"}).rstrip(),
    ]
    streamed = judge([Message(form) for form in forms], OURS).events.to_pylist()
    [batch] = events_of(line(**texts), OURS)
    assert len(streamed) == 3
    for event in streamed:
        assert {name: event[name] for name in batch} == batch


@pytest.mark.parametrize("name", FILES)
def test_no_reject_tells_of_a_customer_whatever_is_wrong_with_it(name: str) -> None:
    secrets = {FIELDS["user_id"]: str(USER), FIELDS["user_session"]: SESSION}
    data = FILES[name].content
    for old, new in secrets.items():
        data = data.replace(old.encode(), new.encode())
    checked = validate(parse_block(Block(data, 0), COLUMN_NAMES), DAY, OURS)
    envelopes = [
        json.loads(text)
        for text in batch_envelopes(
            checked.rejected,
            landing_day=DAY,
            load_id="1",
            place=lambda offset: ("gs://b/f", offset),
            rejected_at=NOW,
            mask=True,
        )
    ]
    lines = [text[past_bom(text, 0) :] for text in data.split(b"\n")]
    for reject in judge([Message(text, "1", NOW, {"user": str(USER)}) for text in lines], OURS).rejects:
        row = stream_envelope(reject, rejected_at=NOW, mask=True)
        assert row["attributes"] is None
        envelopes.append(row | {"raw": base64.b64encode(row["raw"]).decode()})  # type: ignore[arg-type]
    for envelope in envelopes:
        raw = base64.b64decode(envelope["raw"])
        assert str(USER).encode() not in raw
        assert SESSION.encode() not in raw
        assert str(USER) not in envelope["detail"]
        assert SESSION not in envelope["detail"]
        assert masked(raw) == raw


@given(st.binary())
def test_a_masked_line_is_as_long_as_it_was_and_is_no_event(raw: bytes) -> None:
    mask = masked(raw)
    assert len(mask) == len(raw)
    assert not any(octet in b"0123456789" or octet > 127 for octet in mask)
    assert set(mask.decode()) & set("abcdefghijklmnopqrstuvwyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == set()
    assert judge([Message(mask)]).messages == []
    assert is_masked(mask) == (b"#" in mask)


def test_what_is_masked_of_a_detail_is_what_it_quotes() -> None:
    assert masked_detail("price is '5a'; expected 0 or more, without a sign.") == (
        "price is '#x'; expected 0 or more, without a sign."
    )
    assert masked_detail('brand is "it\'s 5"...; expected 256.') == 'brand is "xx\'x #"...; expected 256.'
    assert (
        masked_detail("The line has 8 fields; it should have 9.")
        == "The line has 8 fields; it should have 9."
    )


@pytest.mark.parametrize(
    "detail",
    [
        """unknown fields: 'a"b1', "c'd 520088904".""",
        r"""unknown fields: 'it\'s "', 'it\'s " 520088904'.""",
        "Doesn't fit: '520088904' and '7'.",
        "price is '520088904 that is cut off",
        "price is 'cut off behind 520088904 and \\",
    ],
)
def test_nothing_of_a_quote_stays_plain_whatever_marks_are_in_it_and_where_it_is_cut_off(detail: str) -> None:
    masked_text = masked_detail(detail)
    assert len(masked_text) == len(detail)
    assert "#########" in masked_text
    assert not any(character.isdigit() for character in masked_text)


@given(st.lists(st.text("'\"\\\n5a "), min_size=1))
def test_what_a_detail_quotes_is_masked_whatever_it_is_and_also_in_each_beginning_of_it(
    values: list[str],
) -> None:
    detail = f"The value is {', '.join(map(repr, values))}"
    for end in range(len(detail)):
        assert "5" not in masked_detail(detail[:end])


@pytest.mark.parametrize(
    "text",
    ["latest", "projects/p/secrets/s/versions/latest", "pseudonym.key", "projects/p/secrets/s", "/a,/b"],
)
def test_a_name_that_may_become_another_key_or_names_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no key; give a numbered version of a secret"):
        check_key_name(text)


def test_a_key_is_read_once_from_a_file_and_a_short_or_missing_one_is_refused(tmp_path: Path) -> None:
    file, short = tmp_path / "pseudonym.key", tmp_path / "short.key"
    file.write_bytes(KEY + b"\n")
    short.write_bytes(KEY[:16])
    read = pseudonyms_by(str(file))
    assert read is not None
    assert read.user(USER) == OURS.user(USER)
    file.write_bytes(KEY[::-1])
    assert pseudonyms_by(str(file)) is read
    with pytest.raises(PseudonymKeyError, match=r"short\.key holds 16 bytes, which can be guessed"):
        pseudonyms_by(str(short))
    with pytest.raises(PseudonymKeyError, match=r"none\.key cannot be read: No such file"):
        pseudonyms_by(str(tmp_path / "none.key"))
    assert pseudonyms_by(None) is None


@pytest.mark.parametrize("damage", [0, 1])
def test_a_key_in_secret_manager_is_read_by_its_number_and_one_that_came_damaged_is_refused(
    damage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"projects/p/secrets/s/versions/{3 + damage}"

    def google(method: str, url: str, **options: Any) -> Response:
        assert url.endswith(f"/v1/{name}:access")
        response = Response()
        response.status_code = 200
        payload = {
            "data": base64.b64encode(KEY + b"\n").decode(),
            "dataCrc32c": str(google_crc32c.value(KEY + b"\n") + damage),
        }
        response._content = json.dumps({"name": name, "payload": payload}).encode()
        return response

    client = secretmanager.SecretManagerServiceClient(credentials=AnonymousCredentials(), transport="rest")
    monkeypatch.setattr(client.transport._session, "request", google)
    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", lambda: client)
    if damage:
        with pytest.raises(PseudonymKeyError, match="came damaged"):
            pseudonyms_by(name)
    else:
        read = pseudonyms_by(name)
        assert read is not None
        assert read.user(USER) == OURS.user(USER)
