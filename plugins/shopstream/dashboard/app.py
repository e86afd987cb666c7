"""The dashboard as one FastAPI application, which its caller guards: `create_app`.

Every route, the files of the page too, depends on the guard, and so does every path that is no route: there
is nothing here that an anonymous reader may see. Routes answer from BigQuery's summaries in threads of the
dashboard's own, so that slow queries hold up nothing else of the process they are in.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import mimetypes
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.gzip import GZipMiddleware

from shopstream.charts import (
    DRAW,
    LIBRARY,
    chart_names,
    filters_of,
    query_params,
    read_spec,
    read_sql,
    read_theme,
    runnable_sql,
)
from shopstream.dashboard.answers import answer_of
from shopstream.dashboard.in_airflow import PAGES, PREFIX
from shopstream.dashboard.stores import (
    JOURNEY_DAYS,
    MAX_DAYS,
    Answer,
    BigQueryStore,
    SpannerStore,
    StoreFailed,
)

Guard = Callable[..., Any]
"""A dependency of FastAPI that returns the reader's name, or raises HTTPException 401 or 403."""
T = TypeVar("T")

STATIC_DIR = Path(__file__).with_name("static")
SQL_DIR = Path(__file__).with_name("sql")
THREADS = 8
LOG_IN = (
    '<!doctype html><html lang="en"><title>Log in</title><p>Whoever is logged in to Airflow sees this page: '
    '<a href="{airflow}">log in there</a>, and open it again.'
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    # What a reader sees is of this reader: no proxy may keep it.
    "Cache-Control": "private, no-cache",
}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

LIVE_KEPT_SECONDS = 10.0

log = logging.getLogger(__name__)

UserId = Annotated[int, Query(ge=1, lt=2**63)]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]


def create_app(
    guard: Guard,
    bigquery: BigQueryStore,
    spanner: SpannerStore,
    airflow_url: str | None = None,
    currency: str = "",
) -> FastAPI:
    """Make the application.

    Args:
        guard: refuses whoever may not read.
        bigquery: where the summaries are.
        spanner: where customers' journeys are.
        airflow_url: where Airflow's pages are, without a slash at its end; None if that is not known.
        currency: in which the shop's prices are, by its three letters; "" if that is not known.

    Raises:
        FileNotFoundError: the chart library has not been made.
    """
    app = FastAPI(
        title="shopstream",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(guard), Depends(_refuse_unknown_params)],
    )
    app.add_middleware(GZipMiddleware, minimum_size=2000)
    threads = anyio.CapacityLimiter(THREADS)

    async def off_the_loop(ask: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(ask, limiter=threads)

    @app.middleware("http")
    async def harden(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(401)
    async def ask_to_log_in(request: Request, error: HTTPException) -> Response:
        root = request.scope.get("root_path", "")
        if "text/html" not in request.headers.get("accept", "") or not root.endswith(PREFIX):
            return await http_exception_handler(request, error)
        # Who opens an address of the dashboard in a browser, and not yet Airflow.
        return HTMLResponse(LOG_IN.format(airflow=f"{root.removesuffix(PREFIX)}/"), 401)

    @app.exception_handler(StoreFailed)
    async def tell_store(request: Request, error: StoreFailed) -> JSONResponse:
        return JSONResponse({"store": error.store, "detail": str(error)}, status_code=503)

    files = _static_files()
    html = files["index.html"][0].decode().replace("<html ", f'<html data-currency="{currency}" ', 1)

    async def page() -> HTMLResponse:
        return HTMLResponse(html)

    async def page_of_customers() -> HTMLResponse:
        spanner.warm()  # while a number is written into its field
        return HTMLResponse(html)

    for name in PAGES:
        shown = page_of_customers if name == "customer" else page
        app.add_api_route(f"/{name}", shown, methods=["GET"], name=f"page_{name or 'purchasing'}")

    @app.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        content, kind, tag = files[name]
        headers = {"ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    names = chart_names()
    specs = {name: read_spec(name) for name in names}
    queries = {name: read_sql(name) for name in names}
    described = {
        "theme": read_theme(),
        "charts": [
            {"name": name, "spec": specs[name], "filters": filters_of(queries[name])} for name in names
        ],
    }

    @app.get("/api/charts")
    async def charts() -> dict[str, Any]:
        return described

    @app.get("/api/days")
    async def days() -> dict[str, Any]:
        """The days that there are, the newest first."""
        today = datetime.now(UTC).date()
        sql = _sql("days")
        params = {"first_day": date(1970, 1, 1), "last_day": today}
        return _body(await off_the_loop(lambda: bigquery.ask("days", sql, params)))

    @app.get("/api/choices")
    async def choices(first_day: date, last_day: date) -> dict[str, Any]:
        """The sub-categories and brands of some days, the most viewed first."""
        return _body(await asked("choices", _sql("choices"), first_day, last_day))

    @app.get("/api/headline")
    async def headline(
        first_day: date, last_day: date, subcategory: Text = None, brand: Text = None
    ) -> dict[str, Any]:
        """The figures of each day; with a filter those that products have."""
        name = "headline_of_products" if subcategory or brand else "headline"
        return _body(await asked(name, _sql(name), first_day, last_day, subcategory=subcategory, brand=brand))

    async def asked(name: str, sql: str, first_day: date, last_day: date, **chosen: str | None) -> Answer:
        _refuse_range(first_day, last_day)
        params = query_params(sql, first_day, last_day, **chosen)
        return await off_the_loop(lambda: bigquery.ask(name, sql, params))

    async def rows_of(name: str, first_day: date, last_day: date, **chosen: str | None) -> Answer:
        if name not in queries:
            raise HTTPException(404, f"there is no chart {name!r}; there are {', '.join(names)}")
        return await asked(name, queries[name], first_day, last_day, **chosen)

    # Before the next route, which would take the ending for a part of the name.
    @app.get("/api/charts/{name}.csv")
    async def chart_csv(
        name: str, first_day: date, last_day: date, subcategory: Text = None, brand: Text = None
    ) -> Response:
        """A chart's rows as CSV, with a name for the file."""
        answer = await rows_of(name, first_day, last_day, subcategory=subcategory, brand=brand)
        disposition = f'attachment; filename="{name}_{first_day}_{last_day}.csv"'
        return Response(
            to_csv(answer), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition}
        )

    @app.get("/api/charts/{name}")
    async def chart(
        name: str, first_day: date, last_day: date, subcategory: Text = None, brand: Text = None
    ) -> dict[str, Any]:
        """A chart's rows, the query that made them, and what they say in a sentence."""
        answer = await rows_of(name, first_day, last_day, subcategory=subcategory, brand=brand)
        sql = runnable_sql(queries[name], first_day, last_day, subcategory=subcategory, brand=brand)
        return _body(answer) | {"sql": sql, "answer": answer_of(name, answer.rows, currency)}

    operating = {
        path.stem: path.read_text(encoding="utf-8").strip() for path in (SQL_DIR / "pipelines").iterdir()
    }

    @app.get("/api/pipelines/{name}")
    async def pipelines(name: str, first_day: date, last_day: date) -> dict[str, Any]:
        """What the pipelines wrote of themselves: one of the queries of sql/pipelines."""
        if name not in operating:
            raise HTTPException(404, f"there is no {name!r}; there are {', '.join(sorted(operating))}")
        return _body(await asked(f"pipelines-{name}", operating[name], first_day, last_day))

    live = {path.stem: _sql(f"live/{path.stem}") for path in (SQL_DIR / "live").iterdir()}

    @app.get("/api/live/{name}")
    async def last_hour(name: str) -> dict[str, Any]:
        """The stream's last 60 minutes: one of the queries of sql/live."""
        if name not in live:
            raise HTTPException(404, f"there is no {name!r}; there are {', '.join(sorted(live))}")
        return _body(
            await off_the_loop(lambda: bigquery.ask(f"live-{name}", live[name], {}, LIVE_KEPT_SECONDS))
        )

    @app.get("/api/customer")
    async def customer(
        user_id: UserId,
        last_day: date,
        reader: str = Depends(guard),
    ) -> dict[str, Any]:
        """A customer's events of some days, the newest first, and the last day of the next page."""
        started = time.perf_counter()
        events, next_last_day = await off_the_loop(lambda: spanner.journey(user_id, last_day))
        milliseconds = (time.perf_counter() - started) * 1000
        # Whoever has a user_id can find in the log who asked for it; the log itself names no customer.
        told = hashlib.sha256(str(user_id).encode()).hexdigest()[:12]
        log.info("%s looked up customer %s: %d events.", reader, told, len(events))
        return {
            "rows": events,
            "milliseconds": round(milliseconds, 1),
            "days": JOURNEY_DAYS,
            "next_last_day": next_last_day.isoformat(),
        }

    @app.get("/api/customer/streamed")
    async def customer_streamed(user_id: UserId, last_day: date) -> dict[str, Any]:
        """What the stream has of a customer since the day before `last_day`, the newest loaded."""
        newest = max(last_day, datetime.now(UTC).date())
        params = {"first_day": last_day - timedelta(days=1), "last_day": newest, "user_id": user_id}
        name = "streamed_events_of_customer"
        return _body(await off_the_loop(lambda: bigquery.ask(name, _sql(name), params)))

    @app.get("/api/links")
    async def links() -> dict[str, str | None]:
        """Where Airflow is: null where nobody has said it."""
        return {"airflow": airflow_url}

    # The last route: whatever is no route is refused to strangers first, and then not found.
    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def not_found(path: str) -> Response:
        raise HTTPException(404, "there is no such page")

    return app


def to_csv(answer: Answer) -> str:
    """Return the rows as CSV; a text that a spreadsheet takes for a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(answer.types)
    for row in answer.rows:
        writer.writerow(
            f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
            for value in row.values()
        )
    return text.getvalue()


def _body(answer: Answer) -> dict[str, Any]:
    age = (datetime.now(UTC) - answer.as_of).total_seconds()
    return {
        "rows": answer.rows,
        "types": answer.types,
        "as_of": answer.as_of.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "age_seconds": round(age, 1),
        "is_cut": answer.is_cut,
    }


def _refuse_range(first_day: date, last_day: date) -> None:
    if not first_day <= last_day:
        raise HTTPException(422, f"first_day {first_day} is after last_day {last_day}; swap them")
    if last_day - first_day >= timedelta(days=MAX_DAYS):
        raise HTTPException(422, f"{first_day} to {last_day} is more than {MAX_DAYS} days; choose fewer")


def _refuse_unknown_params(request: Request) -> None:
    """Refuse a slip in a parameter's name, which would show something else than was asked for."""
    route = request.scope["route"]
    dependant = getattr(route, "dependant", None)
    known = {field.alias for field in dependant.query_params} if dependant else set()
    if unknown := sorted(set(request.query_params) - known):
        if route.name.startswith("page_"):  # whose parameters the page itself reads
            return
        told = ", ".join(sorted(known)) or "none"
        raise HTTPException(422, f"{', '.join(unknown)} is no parameter here; there are {told}")


def _sql(name: str) -> str:
    return (SQL_DIR / f"{name}.sql").read_text(encoding="utf-8").strip()


def _static_files() -> dict[str, tuple[bytes, str, str]]:
    """Return content, type and tag of each file of the page, by name."""
    paths = [*sorted(STATIC_DIR.iterdir()), LIBRARY, DRAW]
    if not LIBRARY.is_file():
        raise FileNotFoundError(f"{LIBRARY} is missing: make it with `python -m tools.vega_bundle`")
    files = {}
    for path in paths:
        content = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        files[path.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return files
