"""Who may read the dashboard where Airflow does not say it: whoever has a token, or whom IAP lets through."""

from __future__ import annotations

import hmac
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request

COOKIE = "shopstream_dashboard"
IAP_HEADER = "x-goog-iap-jwt-assertion"
IAP_ISSUER = "https://cloud.google.com/iap"
IAP_KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
KEYS_KEPT_SECONDS = 3600.0
KEYS_ASKED_AGAIN_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
CLOCK_SKEW_SECONDS = 30


def token_guard(token: str) -> Callable[[Request], str]:
    """Return a guard that lets in whoever has the token: in the address once, then in a cookie; or as bearer.

    Raises:
        ValueError: the token is short enough to be guessed.
    """
    if len(token) < 20:
        raise ValueError("the dashboard's token has fewer than 20 characters; give a long random one")

    def is_right(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    def guard(request: Request) -> str:
        if is_right(request.query_params.get("token")):
            # Out of the address, where it would stay in the browser's history.
            cookie = f"{COOKIE}={quote(token)}; HttpOnly; SameSite=Lax; Path=/"
            place = str(request.url.remove_query_params("token").replace(scheme="", netloc=""))
            raise HTTPException(303, "logged in", {"Location": place, "Set-Cookie": cookie})
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if is_right(request.cookies.get(COOKIE)) or (scheme.lower() == "bearer" and is_right(bearer)):
            return "whoever has the token"
        raise HTTPException(401, "Log in with the address that the dashboard printed at its start.")

    return guard


def iap_guard(audience: str, keys_url: str = IAP_KEYS_URL) -> Callable[[Request], str]:
    """Return a guard that lets in whom Identity-Aware Proxy vouches for, and tells the reader's e-mail.

    The header is checked though the service is behind IAP: a way past the proxy would else be a way in.

    Args:
        audience: what IAP signs for, /projects/<number>/locations/<region>/services/<service> on Cloud Run.
        keys_url: where the public keys are.
    """
    keys = _Keys(keys_url)

    def guard(request: Request) -> str:
        from google.auth import jwt
        from google.auth.exceptions import GoogleAuthError

        assertion = request.headers.get(IAP_HEADER)
        if not assertion:
            raise HTTPException(401, "Not authenticated by Identity-Aware Proxy")
        try:
            key_id = jwt.decode_header(assertion).get("kid")
            claims: Mapping[str, Any] = jwt.decode(
                assertion, keys.having(key_id), audience=audience, clock_skew_in_seconds=CLOCK_SKEW_SECONDS
            )
        except (ValueError, GoogleAuthError):
            raise HTTPException(401, "Identity-Aware Proxy's assertion does not hold") from None
        if claims.get("iss") != IAP_ISSUER or not claims.get("email"):
            raise HTTPException(401, "The assertion is not of Identity-Aware Proxy")
        return str(claims["email"])

    return guard


class _Keys:
    """IAP's public keys by their ids, asked for anew when an unknown one is named, but not at each slip."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, str] = {}
        self._asked_at = -KEYS_KEPT_SECONDS
        self._lock = threading.Lock()

    def having(self, key_id: str | None) -> dict[str, str]:
        """Return the keys, among which this one is, if there is such a key.

        Raises:
            HTTPException: 503, the keys cannot be had.
        """
        with self._lock:
            age = time.monotonic() - self._asked_at
            if age > KEYS_KEPT_SECONDS or (key_id not in self._keys and age > KEYS_ASKED_AGAIN_SECONDS):
                try:
                    with urllib.request.urlopen(self._url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                        self._keys = json.load(answer)
                except (OSError, ValueError):
                    raise HTTPException(503, "Identity-Aware Proxy's keys cannot be had; try again") from None
                self._asked_at = time.monotonic()
            return self._keys
