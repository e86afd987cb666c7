SELECT
    source,
    reason,
    rejected_date,
    file,
    byte_offset,
    detail,
    SUBSTR(TO_HEX(raw), 1, 600) AS raw_start_in_hex
FROM shop.rejected_events
WHERE rejected_date BETWEEN @first_day AND @last_day
QUALIFY ROW_NUMBER() OVER (PARTITION BY source, reason ORDER BY rejected_at DESC, byte_offset ASC) <= 3
ORDER BY source ASC, reason ASC, rejected_date DESC
LIMIT 60
