WITH placed AS (
    SELECT
        event_date,
        -- Parted by event_date alone, so that a filter on it reaches the partitions.
        ROW_NUMBER() OVER (PARTITION BY event_date ORDER BY revenue DESC, brand ASC) AS place,
        brand,
        views,
        purchases,
        revenue,
        conversion_rate
    FROM shop.brand_performance
    WHERE revenue > 0 AND brand IS NOT NULL
)

SELECT
    event_date,
    place,
    brand,
    views,
    purchases,
    revenue,
    conversion_rate
FROM placed
WHERE place <= 100
