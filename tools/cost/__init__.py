"""What a month costs, computed without a cloud: `make cost`.

queries.py   each statement that the DAGs send to BigQuery: how often, and the bytes that it reads of how many
events
services.py  the other services' share, from rows, bytes and CPU
limits.py    the bytes an event of each statement, which limit it, kept in shopstream/tables
measure.py   what a mean day of the shop is, kept in shop.yaml
prices.yaml  Google's list prices, each with its source and the day it was read
__main__.py  the table, and the difference to another commit's

A month is 30 mean days. Free amounts are not subtracted, nor are discounts: so items add up, and the truth is
less.
"""
