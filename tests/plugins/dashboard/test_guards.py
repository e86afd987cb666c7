"""guards: a token or Identity-Aware Proxy's signature, and nothing that looks like one."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from google.auth import jwt
from google.auth.crypt import es256

from shopstream.dashboard.app import create_app
from shopstream.dashboard.guards import COOKIE, IAP_HEADER, iap_guard, token_guard
from shopstream.dashboard.stores import BigQueryStore, SpannerStore

TOKEN = "a-token-that-nobody-guesses"
AUDIENCE = "/projects/123/locations/us-central1/services/shopstream-dashboard"


def no_store() -> Any:
    raise ConnectionError


def served(guard: Any) -> TestClient:
    return TestClient(
        create_app(guard, BigQueryStore(no_store), SpannerStore(no_store)), follow_redirects=False
    )


@pytest.fixture(scope="module")
def by_token() -> TestClient:
    return served(token_guard(TOKEN))


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(by_token: TestClient) -> None:
    answer = by_token.get("/customer", params={"token": TOKEN, "user_id": "5"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/customer?user_id=5")
    assert {"HttpOnly", "SameSite=Lax"} <= set(answer.headers["Set-Cookie"].split("; "))
    assert by_token.get("/", headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 200
    by_token.cookies.clear()


def test_a_program_sends_the_token_as_bearer(by_token: TestClient) -> None:
    assert by_token.get("/api/charts", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"params": {"token": TOKEN[:-1]}},
        {"params": {"token": ""}},
        {"headers": {"Cookie": f"{COOKIE}={TOKEN}x"}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"Authorization": "Bearer "}},
        {"headers": {"Authorization": "Bearer ü"}},
        {"headers": {IAP_HEADER: "x.y.z"}},
    ],
)
def test_without_the_token_nothing_is_answered(by_token: TestClient, given: dict[str, Any]) -> None:
    if "headers" in given:
        given = {"headers": {name: value.encode() for name, value in given["headers"].items()}}
    for path in ("/", "/static/vega.js", "/api/charts", "/nowhere"):
        assert by_token.get(path, **given).status_code == 401


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 20 characters"):
        token_guard("secret")


class Keys:
    """IAP's keys and the server that gives them, as JSON of PEM texts by id."""

    def __init__(self) -> None:
        self.private = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("old", "new", "foreign")}
        self.given = ["old"]
        self.asked = 0
        keys = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.asked += 1
                body = json.dumps({name: keys.pem(name) for name in keys.given}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def pem(self, name: str) -> str:
        public = self.private[name].public_key()
        return public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def header(self, key: str = "old", key_id: str | None = None, **changed: Any) -> dict[str, str]:
        """The header that IAP sends for a reader; `changed` are other claims."""
        private = self.private[key].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        now = int(dt.datetime.now(dt.UTC).timestamp())
        claims = {
            "iss": "https://cloud.google.com/iap",
            "aud": AUDIENCE,
            "email": "reader@example.com",
            "iat": now - 5,
            "exp": now + 600,
        } | changed
        signer = es256.ES256Signer.from_string(private, key_id or key)
        return {IAP_HEADER: jwt.encode(signer, claims).decode()}


@pytest.fixture
def keys() -> Iterator[Keys]:
    keys = Keys()
    thread = threading.Thread(target=keys.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield keys
    keys.server.shutdown()
    thread.join()
    keys.server.server_close()


def test_whom_iap_vouches_for_may_read_and_the_keys_are_asked_for_once(keys: Keys) -> None:
    client = served(iap_guard(AUDIENCE, keys.url))
    assert [client.get("/", headers=keys.header()).status_code for _ in range(3)] == [200] * 3
    assert keys.asked == 1


def test_a_key_that_is_new_is_asked_for_but_not_at_each_slip(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = served(iap_guard(AUDIENCE, keys.url))
    assert client.get("/", headers=keys.header()).status_code == 200
    keys.given = ["old", "new"]
    assert client.get("/", headers=keys.header("new")).status_code == 401
    assert keys.asked == 1
    monkeypatch.setattr("shopstream.dashboard.guards.KEYS_ASKED_AGAIN_SECONDS", -1.0)
    assert client.get("/", headers=keys.header("new")).status_code == 200
    assert keys.asked == 2


def test_what_iap_has_not_signed_for_this_service_and_this_hour_is_refused(keys: Keys) -> None:
    client = served(iap_guard(AUDIENCE, keys.url))
    now = int(dt.datetime.now(dt.UTC).timestamp())
    for slip in (
        {},
        {IAP_HEADER: ""},
        {IAP_HEADER: "a.b.c"},
        {"X-Goog-Authenticated-User-Email": "accounts.google.com:reader@example.com"},
        keys.header("foreign"),
        keys.header("foreign", key_id="old"),
        keys.header(aud="/projects/123/locations/us-central1/services/another"),
        keys.header(iss="https://accounts.google.com"),
        keys.header(iat=now - 7200, exp=now - 3600),
        keys.header(email=""),
    ):
        answer = client.get("/", headers=slip)
        assert answer.status_code == 401, slip


def test_without_keys_nobody_is_let_in(keys: Keys) -> None:
    client = served(iap_guard(AUDIENCE, "http://127.0.0.1:9/"))
    assert client.get("/", headers=keys.header()).status_code == 503
