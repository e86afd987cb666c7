WITH sums AS (
    SELECT
        unit,
        SUM(viewed_purchases) AS viewed_purchases,
        SUM(up_to_1_minute) AS up_to_1_minute,
        SUM(up_to_10_minutes) AS up_to_10_minutes,
        SUM(up_to_1_hour) AS up_to_1_hour,
        SUM(up_to_1_day) AS up_to_1_day,
        SUM(up_to_7_days) AS up_to_7_days
    FROM shop.time_to_purchase
    WHERE
        event_date BETWEEN @first_day AND @last_day
        AND scope = IF(@subcategory IS NULL, 'shop', 'subcategory')
        AND (@subcategory IS NULL OR subcategory = @subcategory)
    GROUP BY unit
)

SELECT
    IF(sums.unit = 'session', 'in one session', 'by one customer') AS seen,
    time_number,
    CASE time_number
        WHEN 1 THEN 'up to 1 min'
        WHEN 2 THEN 'up to 10 min'
        WHEN 3 THEN 'up to 1 hour'
        WHEN 4 THEN 'up to 1 day'
        WHEN 5 THEN 'up to 7 days'
        ELSE 'up to 30 days'
    END AS time_taken,
    CASE time_number
        WHEN 1 THEN sums.up_to_1_minute
        WHEN 2 THEN sums.up_to_10_minutes - sums.up_to_1_minute
        WHEN 3 THEN sums.up_to_1_hour - sums.up_to_10_minutes
        WHEN 4 THEN sums.up_to_1_day - sums.up_to_1_hour
        WHEN 5 THEN sums.up_to_7_days - sums.up_to_1_day
        ELSE sums.viewed_purchases - sums.up_to_7_days
    END AS purchases
FROM sums
CROSS JOIN UNNEST([1, 2, 3, 4, 5, 6]) AS time_number
ORDER BY seen, time_number
