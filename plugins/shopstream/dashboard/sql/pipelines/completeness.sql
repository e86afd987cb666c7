SELECT
    event_date,
    event_type,
    batch_events,
    stream_events,
    only_in_batch,
    only_in_stream,
    level,
    compared_at
FROM shop_ops.stream_completeness
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY event_date DESC, event_type ASC
LIMIT 1200
