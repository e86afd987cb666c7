SELECT
    source,
    rejected_date,
    load_id,
    file,
    byte_offset,
    line_bytes,
    raw,
    reason,
    detail,
    rejected_at,
    message_id,
    attributes,
    publish_time,
    lines
FROM shop_raw.rejected_events_batch
UNION ALL
SELECT
    source,
    rejected_date,
    load_id,
    file,
    byte_offset,
    line_bytes,
    raw,
    reason,
    detail,
    rejected_at,
    message_id,
    attributes,
    publish_time,
    lines
FROM shop_raw.rejected_events_stream
