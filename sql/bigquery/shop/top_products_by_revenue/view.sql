WITH placed AS (
    SELECT
        event_date,
        -- Parted by event_date alone, so that a filter on it reaches the partitions.
        ROW_NUMBER() OVER (PARTITION BY event_date ORDER BY revenue DESC, product_id ASC) AS place,
        product_id,
        category_code,
        brand,
        views,
        purchases,
        revenue,
        conversion_rate
    FROM shop.product_performance
    WHERE revenue > 0
)

SELECT
    event_date,
    place,
    product_id,
    category_code,
    brand,
    views,
    purchases,
    revenue,
    conversion_rate
FROM placed
WHERE place <= 100
