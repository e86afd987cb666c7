-- check: possible_values, severity: fail
SELECT
    scope,
    subcategory,
    unit,
    purchases,
    viewed_purchases,
    up_to_1_minute,
    up_to_7_days,
    first_quartile_seconds,
    median_seconds,
    third_quartile_seconds,
    ninth_decile_seconds
FROM shop.time_to_purchase
WHERE
    event_date = @day
    AND (
        scope NOT IN ('shop', 'subcategory')
        OR unit NOT IN ('session', 'customer')
        OR purchases < 1
        OR viewed_purchases NOT BETWEEN up_to_7_days AND purchases
        OR up_to_1_day NOT BETWEEN up_to_1_hour AND up_to_7_days
        OR up_to_10_minutes NOT BETWEEN up_to_1_minute AND up_to_1_hour
        OR up_to_1_minute < 0
        OR (median_seconds IS NULL) != (viewed_purchases = 0)
        OR first_quartile_seconds NOT BETWEEN 0 AND median_seconds
        OR third_quartile_seconds NOT BETWEEN median_seconds AND ninth_decile_seconds
        OR ninth_decile_seconds > 30 * 86400
    );

-- check: median_fits_the_counts, severity: fail
SELECT
    scope,
    subcategory,
    unit,
    viewed_purchases,
    up_to_1_minute,
    up_to_1_hour,
    median_seconds
FROM shop.time_to_purchase
WHERE
    event_date = @day
    AND (
        (median_seconds <= 60) != (up_to_1_minute * 2 >= viewed_purchases)
        OR (median_seconds <= 3600) != (up_to_1_hour * 2 >= viewed_purchases)
    );

-- check: every_purchase_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(DISTINCT CONCAT(TO_HEX(session_key), ' ', CAST(product_id AS STRING)))
            AS expected_of_sessions,
        COUNT(DISTINCT CONCAT(CAST(user_id AS STRING), ' ', CAST(product_id AS STRING)))
            AS expected_of_customers
    FROM shop_raw.carts_and_purchases
    WHERE event_date = @day AND event_type = 'purchase'
),

found AS (
    SELECT
        COALESCE(SUM(IF(unit = 'session', purchases, 0)), 0) AS found_of_sessions,
        COALESCE(SUM(IF(unit = 'customer', purchases, 0)), 0) AS found_of_customers
    FROM shop.time_to_purchase
    WHERE event_date = @day AND scope = 'shop'
)

SELECT
    expected.expected_of_sessions,
    found.found_of_sessions,
    expected.expected_of_customers,
    found.found_of_customers
FROM expected
CROSS JOIN found
WHERE
    expected.expected_of_sessions != found.found_of_sessions
    OR expected.expected_of_customers != found.found_of_customers;

-- check: most_purchases_were_viewed, severity: warn
-- A customer who bought looked at it in the 30 days before: else views are missing.
SELECT
    purchases,
    viewed_purchases
FROM shop.time_to_purchase
WHERE
    event_date = @day
    AND scope = 'shop'
    AND unit = 'customer'
    AND viewed_purchases * 2 < purchases;
