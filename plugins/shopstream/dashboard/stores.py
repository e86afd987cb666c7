"""What the dashboard asks the stores: bounded, and kept for a moment, so that many readers cost one query.

Every query has a byte limit, a time limit and a limit of rows. Whatever a store refuses becomes a
StoreFailed, which names the store and says what to do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from shopstream.gcp.clients import with_waiting_reads
from shopstream.tables.names import REJECTED_EVENTS_BATCH, REJECTED_EVENTS_STREAM

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.spanner_v1.database import Database

    from shopstream.gcp.bigquery import Limit

MAX_DAYS = 400
"""So many days a chart shows at most, and of no more may a query read the events."""
MAX_ROWS = 2000
QUERY_SECONDS = 25.0
KEPT_SECONDS = 60.0
MAX_KEPT = 500

log = logging.getLogger(__name__)
Made = TypeVar("Made")


class StoreFailed(RuntimeError):
    """A store did not answer or refused; the message is for the reader and says what to do."""

    def __init__(self, store: str, message: str) -> None:
        super().__init__(message)
        self.store = store


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query: values are of JSON, `types` BigQuery's by column; `as_of` is when they were read.

    `is_cut` tells that there were more than MAX_ROWS.
    """

    rows: list[dict[str, Any]]
    types: Mapping[str, str]
    as_of: datetime
    is_cut: bool


class _Client(Generic[Made]):
    """A store's client, made once: when it is first needed, or before that by `warm`."""

    def __init__(self, store: str, make: Callable[[], Made]) -> None:
        self._store = store
        self._make = make
        self._client: Made | None = None
        self._making = threading.Lock()

    def warm(self) -> threading.Thread:
        """Begin to make the client, whose libraries take seconds to import, before somebody asks.

        If that fails, whoever asks first is told.
        """

        def make() -> None:
            try:
                self.made()
            except Exception:
                log.info("The client of %s could not be made yet.", self._store, exc_info=True)

        thread = threading.Thread(target=make, daemon=True)
        thread.start()
        return thread

    def made(self) -> Made:
        with self._making:
            if self._client is None:
                self._client = self._make()
            return self._client


class BigQueryStore:
    """Answers of BigQuery, each kept for some seconds; may be used by several threads at once."""

    def __init__(self, make_client: Callable[[], Client]) -> None:
        self._client = _Client("BigQuery", make_client)
        self.warm = self._client.warm
        self._kept: OrderedDict[Hashable, tuple[float, Future[Answer]]] = OrderedDict()
        self._lock = threading.Lock()

    def ask(
        self, name: str, sql: str, params: Mapping[str, Any], kept_seconds: float = KEPT_SECONDS
    ) -> Answer:
        """Return the rows of a query, as they were at most `kept_seconds` ago.

        Whoever asks the same while it is being asked waits for that answer. A failure is not kept.

        Args:
            name: names the query in the id of its job.
            params: the query's parameters, as gcp.bigquery.run takes them.

        Raises:
            StoreFailed: BigQuery did not answer, or refused.
        """
        key = (sql, repr(sorted(params.items())))
        now = time.monotonic()
        with self._lock:
            asked_at, kept = self._kept.get(key, (0.0, None))
            if kept and not (kept.done() and now - asked_at > kept_seconds):
                future, is_mine = kept, False
            else:
                future, is_mine = Future[Answer](), True
                self._kept[key] = (now, future)
                self._kept.move_to_end(key)
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        if is_mine:
            try:
                future.set_result(self._query(name, sql, params))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                future.set_exception(error)
        return future.result()

    def _query(self, name: str, sql: str, params: Mapping[str, Any]) -> Answer:
        from google.api_core.exceptions import GoogleAPIError, NotFound

        from shopstream.gcp.bigquery import TooManyBytes, run

        until = time.monotonic() + QUERY_SECONDS

        def left() -> float:
            if (seconds := until - time.monotonic()) > 0:
                return seconds
            raise TimeoutError(f"{name}: no answer within {QUERY_SECONDS:g} s")

        try:
            client = self._client.made()
            limit = _limit(client, name, sql, params, left)
            job = run(
                client,
                sql,
                params,
                job_id_prefix=f"dashboard-{name}",
                maximum_bytes_billed=limit,
                timeout_seconds=left(),
            )
            found = job.result(max_results=MAX_ROWS + 1, timeout=left())
            rows = [{column: plain(value) for column, value in row.items()} for row in found]
        except NotFound as error:
            raise failed(error, "A table is missing: run the DAG apply_schemas.") from error
        except TooManyBytes as error:
            raise failed(error, "This would read more than it may: the log says what raises that.") from error
        except GoogleAPIError as error:
            raise failed(
                error, "BigQuery refused or did not answer: try again; the log says more."
            ) from error
        except Exception as error:
            raise failed(error, "BigQuery could not be reached: try again; the log says more.") from error
        types = {field.name: field.field_type for field in found.schema}
        return Answer(rows[:MAX_ROWS], types, datetime.now(UTC), len(rows) > MAX_ROWS)


def _limit(
    client: Client, name: str, sql: str, params: Mapping[str, Any], left: Callable[[], float]
) -> Limit:
    """Return what a query may bill: of the events of its days, or, of rejected lines, of all of them.

    `left` tells how many seconds are left, each time that something is asked.
    """
    from shopstream.gcp.bigquery import get_table
    from shopstream.tables.limits import limit_of, limit_of_tables, most_events

    if "shop.rejected_events" in sql:
        return limit_of_tables(
            *(get_table(client, table, left()) for table in (REJECTED_EVENTS_BATCH, REJECTED_EVENTS_STREAM))
        )
    days = (params["last_day"] - params["first_day"]).days + 1 if "last_day" in params else 1
    return limit_of(f"ask {name}", most_events(client, timeout_seconds=left()) * min(days, MAX_DAYS))


def failed(error: Exception, message: str, store: str = "BigQuery") -> StoreFailed:
    """Write to the log what a store said, which may name what readers need not know."""
    log.warning("%s did not answer the dashboard: %s: %s", store, type(error).__name__, error)
    return StoreFailed(store, message)


def plain(value: Any) -> Any:
    """Return a value of BigQuery or Spanner as one of JSON."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


JOURNEY_DAYS = 90
"""So many days of a customer's journey are on a page: each is one short range of Spanner's key."""
DAYS_A_READ = 15
MAX_ROWS_A_READ = 10 * MAX_ROWS
JOURNEY_SECONDS = 10.0
JOURNEY_COLUMNS = (
    *("event_time", "event_id", "event_type", "product_id", "category_code", "brand", "price"),
    "user_session",
)
_LOAD = ("landing_day", "load_id")


class SpannerStore:
    """Customers' journeys, as Spanner serves them."""

    def __init__(self, make_database: Callable[[], Database]) -> None:
        self._client = _Client("Spanner", lambda: with_waiting_reads(make_database(), JOURNEY_SECONDS))
        self.warm = self._client.warm

    def journey(self, user_id: int, last_day: date) -> tuple[list[dict[str, Any]], date]:
        """Return a customer's events of the JOURNEY_DAYS up to a day, the newest first; and where to go on.

        That is the last day of the next such page. Of more than MAX_ROWS events the oldest are on the next
        page, with all of their day.

        Raises:
            StoreFailed: Spanner did not answer, or refused.
        """
        from google.api_core.exceptions import GoogleAPIError, NotFound

        try:
            events = _journey(self._client.made(), user_id, last_day)
        except NotFound as error:
            raise failed(error, "The database is not there: run the DAG apply_schemas.", "Spanner") from error
        except GoogleAPIError as error:
            message = "Spanner refused or did not answer: try again; the log says more."
            raise failed(error, message, "Spanner") from error
        except Exception as error:
            message = "Spanner could not be reached: try again; the log says more."
            raise failed(error, message, "Spanner") from error
        if len(events) <= MAX_ROWS:
            return events, last_day - timedelta(days=JOURNEY_DAYS)
        oldest = events[-1]["event_time"][:10]
        whole = [event for event in events if event["event_time"][:10] != oldest]
        # One day with more events than a page: what does not fit is not shown.
        return (whole or events[:MAX_ROWS]), date.fromisoformat(oldest) - timedelta(days=0 if whole else 1)


def _journey(database: Database, user_id: int, last_day: date) -> list[dict[str, Any]]:
    """Read the customer's events by their key, the newest first, until there are more than MAX_ROWS."""
    from google.cloud.spanner_v1 import KeyRange, KeySet

    from beam_jobs.contract import LATENESS_DAYS

    events: list[dict[str, Any]] = []
    landed = [last_day - timedelta(days=JOURNEY_DAYS - 1), last_day + timedelta(days=LATENESS_DAYS)]
    first_landed, last_landed = ([day.isoformat()] for day in landed)
    with database.snapshot() as snapshot:
        loads = snapshot.read(
            "published_loads",
            _LOAD,
            KeySet(ranges=[KeyRange(start_closed=first_landed, end_closed=last_landed)]),
            timeout=JOURNEY_SECONDS,
        )
        published = {tuple(row) for row in loads}
        # All else is read of the same moment, so that no load is published in between. Spanner says which: a
        # clock of ours that is behind would hide what was just published. Not by one snapshot of several
        # uses: the emulator ends those of a client that does something else meanwhile.
        moment = loads.metadata.transaction.read_timestamp
    for first in range(0, JOURNEY_DAYS, DAYS_A_READ):
        # As the view customer_journey: an event of a published load, once. The view itself is no way: the
        # emulator reads all rows of all customers for it.
        once: dict[str, dict[str, Any]] = {}
        days = [last_day - timedelta(days=n) for n in range(first, first + DAYS_A_READ)]
        for landing_day, load_id, *row in _read_days(database, moment, user_id, days):
            if (landing_day, load_id) in published:
                event = dict(zip(JOURNEY_COLUMNS, map(plain, row), strict=True))
                once.setdefault(event["event_id"], event)
        events += sorted(once.values(), key=lambda event: (event["event_time"], event["event_id"]))[::-1]
        if len(events) > MAX_ROWS:
            break
    return events[: MAX_ROWS + 1]


def _read_days(database: Database, moment: datetime, user_id: int, days: Sequence[date]) -> list[list[Any]]:
    """Read the customer's rows of the days, of whatever load; of a day at most MAX_ROWS_A_READ.

    The rows come in the order of days, the oldest first: where they are too many, half of the days is read at
    once, lest the newest be left out.
    """
    from google.cloud.spanner_v1 import KeyRange, KeySet

    from beam_jobs.identity import shard

    keys = [[shard(user_id), day.isoformat(), user_id] for day in days]
    with database.snapshot(read_timestamp=moment) as snapshot:
        rows = list(
            snapshot.read(
                "loaded_events",
                (*_LOAD, *JOURNEY_COLUMNS),
                KeySet(ranges=[KeyRange(start_closed=key, end_closed=key) for key in keys]),
                limit=MAX_ROWS_A_READ,
                timeout=JOURNEY_SECONDS,
            )
        )
    if len(rows) < MAX_ROWS_A_READ or len(days) == 1:
        return rows
    half = len(days) // 2
    return [row for part in (days[:half], days[half:]) for row in _read_days(database, moment, user_id, part)]
