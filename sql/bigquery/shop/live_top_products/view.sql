WITH recent AS (
    SELECT
        event_type,
        product_id,
        category_code,
        brand,
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
    product_id,
    MAX(category_code) AS category_code,
    MAX(brand) AS brand,
    COUNTIF(event_type = 'view') AS views,
    COUNTIF(event_type = 'cart') AS carts,
    COUNTIF(event_type = 'purchase') AS purchases,
    SUM(IF(event_type = 'purchase', price, 0)) AS revenue
FROM recent
GROUP BY product_id
ORDER BY revenue DESC, views DESC, product_id ASC
LIMIT 100
