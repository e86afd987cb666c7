WITH products_in_sessions AS (
    SELECT
        event_date,
        session_key,
        product_id,
        MAX(IF(event_type = 'cart', category_level_2, NULL)) AS subcategory,
        MIN(IF(event_type = 'cart', event_time, NULL)) AS carted_at,
        MAX(IF(event_type = 'cart', price, NULL)) AS price,
        MAX(IF(event_type = 'purchase', event_time, NULL)) AS last_purchase
    FROM shop_raw.carts_and_purchases
    WHERE event_date = @day AND session_key IS NOT NULL
    GROUP BY event_date, session_key, product_id
),

carts AS (
    SELECT
        event_date,
        subcategory,
        carted_at,
        price,
        COALESCE(last_purchase >= carted_at, FALSE) AS is_purchased,
        COALESCE(MAX(last_purchase) OVER (PARTITION BY session_key) >= carted_at, FALSE) AS has_order
    FROM products_in_sessions
)

SELECT
    event_date,
    subcategory,
    EXTRACT(HOUR FROM carted_at) AS cart_hour,
    COUNT(*) AS carts,
    SUM(price) AS cart_value,
    COUNTIF(NOT is_purchased) AS abandoned_carts,
    SUM(IF(is_purchased, 0, price)) AS abandoned_value,
    COUNTIF(NOT has_order) AS carts_without_order,
    SUM(IF(has_order, 0, price)) AS value_without_order,
    COUNTIF(NOT is_purchased) / COUNT(*) AS abandonment_rate
FROM carts
WHERE carted_at IS NOT NULL
GROUP BY event_date, subcategory, cart_hour
