"""How Google's APIs say no."""

from __future__ import annotations

from typing import Any

REASONS = {
    "ALREADY_EXISTS": (409, "alreadyExists"),
    "FAILED_PRECONDITION": (400, "failedPrecondition"),
    "INTERNAL": (500, "backendError"),
    "INVALID_ARGUMENT": (400, "badRequest"),
    "NOT_FOUND": (404, "notFound"),
}
"""HTTP code and reason of each canonical status that the local Dataflow answers with."""


class ApiError(Exception):
    """A request that is refused; `status` is a key of REASONS."""

    def __init__(self, status: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []

    @property
    def http_code(self) -> int:
        """The HTTP status code of the answer."""
        return REASONS[self.status][0]

    def body(self) -> dict[str, Any]:
        """The answer's JSON, in the shape of Google's APIs."""
        code, reason = REASONS[self.status]
        error: dict[str, Any] = {
            "code": code,
            "message": self.message,
            "status": self.status,
            "errors": [{"message": self.message, "domain": "global", "reason": reason}],
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}
