-- check: possible_values, severity: fail
SELECT
    product_id,
    views,
    carts,
    purchases,
    revenue,
    viewing_sessions,
    converted_sessions,
    conversion_rate
FROM shop.product_performance
WHERE
    event_date = @day
    AND (
        LEAST(views, carts, purchases, converted_sessions) < 0
        OR views + carts + purchases < 1
        OR revenue < 0
        OR (purchases = 0 AND revenue > 0)
        OR viewing_sessions > views
        OR converted_sessions > LEAST(viewing_sessions, purchases)
        OR conversion_rate NOT BETWEEN 0 AND 1
    );

-- check: averages_fit_their_sums, severity: fail
SELECT
    product_id,
    purchases,
    revenue,
    average_price_viewed,
    average_price_paid
FROM shop.product_performance
WHERE
    event_date = @day
    AND (
        average_price_viewed < 0
        OR (average_price_paid IS NULL) != (purchases = 0)
        OR ABS(average_price_paid * purchases - revenue) * 2000000 > purchases
    );

-- check: every_event_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_events,
        COALESCE(SUM(IF(event_type = 'purchase', price, 0)), 0) AS expected_revenue
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
),

found AS (
    SELECT
        COALESCE(SUM(views + carts + purchases), 0) AS found_events,
        COALESCE(SUM(revenue), 0) AS found_revenue
    FROM shop.product_performance
    WHERE event_date = @day
)

SELECT
    expected.expected_events,
    found.found_events,
    expected.expected_revenue,
    found.found_revenue
FROM expected
CROSS JOIN found
WHERE
    expected.expected_events != found.found_events
    OR expected.expected_revenue != found.found_revenue;

-- check: purchased_products_were_viewed, severity: warn
-- Products with ten purchases or more and not one view: their pages are not tracked.
SELECT
    product_id,
    purchases,
    views
FROM shop.product_performance
WHERE
    event_date = @day
    AND views = 0
    AND purchases >= 10;

-- check: like_the_days_before, severity: warn
-- Fewer than half or more than twice the products of an average day, of the 7 before, that has any.
WITH counted AS (
    SELECT
        COUNTIF(event_date = @day) AS found_products,
        SAFE_DIVIDE(
            COUNTIF(event_date < @day),
            COUNT(DISTINCT IF(event_date < @day, event_date, NULL))
        ) AS average_products_before
    FROM shop.product_performance
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 7 DAY) AND @day
)

SELECT
    found_products,
    average_products_before
FROM counted
WHERE found_products < average_products_before / 2 OR found_products > average_products_before * 2;
