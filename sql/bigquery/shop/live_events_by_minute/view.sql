WITH recent AS (
    SELECT
        event_time,
        event_type,
        user_id,
        price
    FROM shop_raw.events_stream
    WHERE
        -- Only these two partitions are read.
        event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL 1 DAY) AND CURRENT_DATE()
        AND event_time > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 60 MINUTE)
        -- A customer's clock may be ahead.
        AND event_time <= CURRENT_TIMESTAMP()
    QUALIFY ROW_NUMBER() OVER (PARTITION BY event_date, event_id ORDER BY publish_time) = 1
)

SELECT
    TIMESTAMP_TRUNC(event_time, MINUTE) AS minute,
    event_type,
    COUNT(*) AS events,
    COUNT(DISTINCT user_id) AS users,
    SUM(IF(event_type = 'purchase', price, 0)) AS revenue
FROM recent
GROUP BY minute, event_type
