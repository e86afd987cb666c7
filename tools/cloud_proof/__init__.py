"""What only Google Cloud can tell, asked of it: `make cloud-proof`.

probe.py        what a probe is, and how probes are run, cleaned up after and told of
ground.py       how they reach a shop: the local stack's, or a real project's
of_bigquery.py  of_google.py  of_airflow.py    the probes, by what they ask
__main__.py     the command: a dry run unless it is told to run

A probe has an expected answer, a bound of what it costs, and clears away what it made. Here they run against
the local stack too, through the same clients; a probe whose answer an emulator would make up says that it
needs Google.
"""
