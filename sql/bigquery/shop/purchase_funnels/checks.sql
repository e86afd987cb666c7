-- check: accepted_values, severity: fail
SELECT
    scope,
    subcategory,
    unit
FROM shop.purchase_funnels
WHERE
    event_date = @day
    AND (
        scope NOT IN ('shop', 'subcategory')
        OR unit NOT IN ('session', 'session_product')
        OR (scope = 'shop' AND subcategory IS NOT NULL)
    );

-- check: possible_counts, severity: fail
-- A step never has more units than the step before.
SELECT
    scope,
    subcategory,
    unit,
    units,
    viewed,
    carted,
    purchased,
    view_cart,
    view_cart_purchase,
    view_purchase
FROM shop.purchase_funnels
WHERE
    event_date = @day
    AND (
        units < GREATEST(viewed, carted, purchased, 1)
        OR view_cart > LEAST(viewed, carted)
        OR view_cart_purchase > LEAST(view_cart, purchased)
        OR view_cart_purchase + view_purchase + cart_view_purchase + purchase_before_view > viewed
    );

-- check: every_purchasing_unit_is_of_one_kind, severity: fail
SELECT
    scope,
    subcategory,
    unit,
    purchased,
    view_cart_purchase,
    view_purchase,
    cart_view_purchase,
    purchase_before_view,
    purchase_without_view
FROM shop.purchase_funnels
WHERE
    event_date = @day
    AND purchased
    != view_cart_purchase + view_purchase + cart_view_purchase + purchase_before_view + purchase_without_view;

-- check: rates_are_shares, severity: fail
SELECT
    scope,
    subcategory,
    unit,
    view_cart_rate,
    cart_purchase_rate,
    view_cart_purchase_rate,
    view_purchase_rate,
    conversion_rate
FROM shop.purchase_funnels
WHERE
    event_date = @day
    AND (
        view_cart_rate NOT BETWEEN 0 AND 1
        OR cart_purchase_rate NOT BETWEEN 0 AND 1
        OR view_cart_purchase_rate NOT BETWEEN 0 AND 1
        OR view_purchase_rate NOT BETWEEN 0 AND 1
        OR conversion_rate NOT BETWEEN 0 AND 1
        OR (conversion_rate IS NULL) != (viewed = 0)
    );

-- check: every_session_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(DISTINCT session_key) AS expected_sessions,
        COUNT(DISTINCT IF(event_type = 'purchase', session_key, NULL)) AS expected_purchased
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
),

found AS (
    SELECT
        COALESCE(SUM(units), 0) AS found_sessions,
        COALESCE(SUM(purchased), 0) AS found_purchased
    FROM shop.purchase_funnels
    WHERE event_date = @day AND scope = 'shop' AND unit = 'session'
)

SELECT
    expected.expected_sessions,
    found.found_sessions,
    expected.expected_purchased,
    found.found_purchased
FROM expected
CROSS JOIN found
WHERE
    expected.expected_sessions != found.found_sessions
    OR expected.expected_purchased != found.found_purchased;

-- check: few_impossible_orders, severity: warn
-- More than one purchase in ten without a view before it: views are missing.
SELECT
    unit,
    purchased,
    purchase_before_view,
    purchase_without_view
FROM shop.purchase_funnels
WHERE
    event_date = @day
    AND scope = 'shop'
    AND (purchase_before_view + purchase_without_view) * 10 > purchased;
