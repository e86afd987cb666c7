WITH hours AS (
    SELECT
        event_date,
        EXTRACT(HOUR FROM event_time) AS event_hour,
        event_type,
        COUNT(*) AS events,
        SUM(price) AS price_sum,
        ROUND(SUM(price) / COUNT(*), 6) AS price_average
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
    GROUP BY event_date, event_hour, event_type
)

SELECT
    event_date,
    event_hour,
    event_type,
    events,
    price_sum,
    -- A millionth less where a quotient a little below a half of its 6th decimal became that half, of the 9
    -- decimals that NUMERIC keeps, and went up.
    price_average
    - IF((price_average * events - price_sum) * 2000000 > events, NUMERIC '1' / 1000000, 0) AS price_average
FROM hours
