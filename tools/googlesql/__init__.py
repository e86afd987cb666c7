"""Google's own GoogleSQL analyzer as a judge of this project's SQL, beside the emulator that executes it.

analyzer.py    starts the analyzer, tells it the tables of sql/bigquery, and asks it about one statement
statements.py  every statement of sql/bigquery, with the file and line where it stands
sizes.py      the bytes that columns hold of each day, and that a statement reads of them
reads.py       what a statement reads of which days, from what the analyzer made of it
__main__.py    judges all statements: `python -m tools.googlesql`

The analyzer is the npm package that package-lock.json pins; `make install` fetches it into node_modules.
"""
