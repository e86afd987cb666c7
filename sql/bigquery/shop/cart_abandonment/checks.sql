-- check: possible_values, severity: fail
SELECT
    subcategory,
    cart_hour,
    carts,
    cart_value,
    abandoned_carts,
    abandoned_value,
    carts_without_order,
    value_without_order,
    abandonment_rate
FROM shop.cart_abandonment
WHERE
    event_date = @day
    AND (
        cart_hour NOT BETWEEN 0 AND 23
        OR carts < 1
        OR abandoned_carts NOT BETWEEN carts_without_order AND carts
        OR carts_without_order < 0
        OR abandoned_value NOT BETWEEN value_without_order AND cart_value
        OR value_without_order < 0
        OR abandonment_rate NOT BETWEEN 0 AND 1
    );

-- check: every_cart_counted, severity: fail
WITH carted AS (
    SELECT
        session_key,
        product_id,
        MAX(price) AS price
    FROM shop_raw.carts_and_purchases
    WHERE
        event_date = @day
        AND event_type = 'cart'
        AND session_key IS NOT NULL
    GROUP BY session_key, product_id
),

expected AS (
    SELECT
        COUNT(*) AS expected_carts,
        COALESCE(SUM(price), 0) AS expected_value
    FROM carted
),

found AS (
    SELECT
        COALESCE(SUM(carts), 0) AS found_carts,
        COALESCE(SUM(cart_value), 0) AS found_value
    FROM shop.cart_abandonment
    WHERE event_date = @day
)

SELECT
    expected.expected_carts,
    found.found_carts,
    expected.expected_value,
    found.found_value
FROM expected
CROSS JOIN found
WHERE
    expected.expected_carts != found.found_carts
    OR expected.expected_value != found.found_value;

-- check: some_carts_purchased, severity: warn
-- This shop sells about three carts in ten: a hundred and none sold is more likely a gap in the tracking.
SELECT
    SUM(carts) AS found_carts,
    SUM(abandoned_carts) AS found_abandoned_carts
FROM shop.cart_abandonment
WHERE event_date = @day
HAVING SUM(carts) >= 100 AND SUM(abandoned_carts) = SUM(carts);
