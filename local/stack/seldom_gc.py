"""Import this to have Python's garbage collector called seldom; programs of the local stack do, first of all.

Importing Airflow or Beam and building the API make millions of objects that stay. By default the collector
looks through them again and again meanwhile, and finds nothing: a third of the CPU of the API server's start.
"""

import gc

gc.set_threshold(100_000, 20, 20)
