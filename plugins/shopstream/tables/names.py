"""The tables that code names; their folders are in sql/bigquery."""

EVENTS_BATCH = "shop_raw.events_batch"
EVENTS_STREAM = "shop_raw.events_stream"
REJECTED_EVENTS = "shop_raw.rejected_events"
CHECK_RESULTS = "shop_ops.check_results"
LOADS = "shop_ops.loads"
STREAM_CHECKS = "shop_ops.stream_checks"
STREAM_COMPLETENESS = "shop_ops.stream_completeness"
