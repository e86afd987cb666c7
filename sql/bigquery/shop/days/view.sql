WITH known AS (
    SELECT
        event_date,
        CAST(NULL AS TIMESTAMP) AS loaded_at
    FROM shop.daily_event_count
    UNION ALL
    SELECT
        landing_day AS event_date,
        loaded_at
    FROM shop_ops.loads
)

SELECT
    event_date,
    MAX(loaded_at) IS NULL AS is_provisional,
    MAX(loaded_at) AS published_at
FROM known
GROUP BY event_date
