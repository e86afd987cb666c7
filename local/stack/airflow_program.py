"""The program `airflow`, for a component of the local stack: its arguments are those of `airflow`."""

from __future__ import annotations

import local.stack.seldom_gc  # noqa: F401 (before Airflow, whose import it is about)

from airflow.__main__ import main  # isort: skip

if __name__ == "__main__":
    main()
