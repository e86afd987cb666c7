WITH both_paths AS (
    SELECT
        event_id,
        event_date,
        event_time,
        event_type,
        product_id,
        category_id,
        category_code,
        category_level_1,
        category_level_2,
        category_level_3,
        category_level_4,
        brand,
        price,
        user_id,
        user_session,
        landing_day,
        'batch' AS source
    FROM shop_raw.events_batch
    UNION ALL
    SELECT
        event_id,
        event_date,
        event_time,
        event_type,
        product_id,
        category_id,
        category_code,
        category_level_1,
        category_level_2,
        category_level_3,
        category_level_4,
        brand,
        price,
        user_id,
        user_session,
        CAST(NULL AS DATE) AS landing_day,
        'stream' AS source
    FROM shop_raw.events_stream
)

SELECT
    event_id,
    event_date,
    event_time,
    event_type,
    product_id,
    category_id,
    category_code,
    category_level_1,
    category_level_2,
    category_level_3,
    category_level_4,
    brand,
    price,
    user_id,
    user_session,
    landing_day,
    source
FROM both_paths
WHERE TRUE
-- event_date is part of the window, though event_id alone would tell events apart: only so does a filter on
-- event_date reach the partitions. batch sorts before stream, and the first landing before a repeated one.
QUALIFY ROW_NUMBER() OVER (PARTITION BY event_date, event_id ORDER BY source, landing_day) = 1
