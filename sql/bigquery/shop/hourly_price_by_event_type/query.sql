SELECT
    event_date,
    EXTRACT(HOUR FROM event_time) AS event_hour,
    event_type,
    COUNT(*) AS events,
    SUM(price) AS price_sum,
    -- Rounded in billionths, to thousands of them: NUMERIC keeps 9 decimals of a quotient, so that one a
    -- little below a half of the 6th would become that half, and go up. The last ROUND is for engines that
    -- divide as FLOAT64.
    ROUND(ROUND(SUM(price) * 1000000000 / COUNT(*), -3) / NUMERIC '1000000000', 6) AS price_average
FROM shop.events
WHERE event_date = @day
GROUP BY event_date, event_hour, event_type
