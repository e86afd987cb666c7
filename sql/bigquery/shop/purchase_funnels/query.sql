-- Each event counts at four levels: for its session and for its product in its session, in the whole shop and
-- in its sub-category. What a unit's events outside the level did does not matter to it.
WITH leveled AS (
    SELECT
        event_date,
        scope,
        IF(scope = 'subcategory', category_level_2, NULL) AS subcategory,
        unit,
        session_key,
        IF(unit = 'session_product', product_id, NULL) AS product_id,
        event_type,
        event_time
    FROM shop_raw.events_deduplicated
    CROSS JOIN UNNEST(['shop', 'subcategory']) AS scope
    CROSS JOIN UNNEST(['session', 'session_product']) AS unit
    WHERE
        event_date = @day
        AND session_key IS NOT NULL
),

timed AS (
    SELECT
        event_date,
        scope,
        subcategory,
        unit,
        session_key,
        product_id,
        event_type,
        event_time,
        MIN(IF(event_type = 'view', event_time, NULL)) OVER (
            PARTITION BY scope, subcategory, unit, session_key, product_id
        ) AS first_view
    FROM leveled
),

units AS (
    SELECT
        event_date,
        scope,
        subcategory,
        unit,
        session_key,
        product_id,
        MIN(first_view) AS first_view,
        MIN(IF(event_type = 'cart', event_time, NULL)) AS first_cart,
        MIN(IF(event_type = 'cart' AND event_time >= first_view, event_time, NULL)) AS first_cart_since_view,
        MAX(IF(event_type = 'purchase', event_time, NULL)) AS last_purchase
    FROM timed
    GROUP BY event_date, scope, subcategory, unit, session_key, product_id
),

counted AS (
    SELECT
        event_date,
        scope,
        subcategory,
        unit,
        COUNT(*) AS units,
        COUNT(first_view) AS viewed,
        COUNT(first_cart) AS carted,
        COUNT(last_purchase) AS purchased,
        COUNT(first_cart_since_view) AS view_cart,
        COUNTIF(first_cart_since_view <= last_purchase) AS view_cart_purchase,
        COUNTIF(
            first_view <= last_purchase
            AND (first_cart IS NULL OR first_cart > last_purchase)
        ) AS view_purchase,
        COUNTIF(
            first_view <= last_purchase
            AND first_cart <= last_purchase
            AND (first_cart_since_view IS NULL OR first_cart_since_view > last_purchase)
        ) AS cart_view_purchase,
        COUNTIF(first_view > last_purchase) AS purchase_before_view,
        COUNTIF(first_view IS NULL AND last_purchase IS NOT NULL) AS purchase_without_view
    FROM units
    GROUP BY event_date, scope, subcategory, unit
)

SELECT
    event_date,
    scope,
    subcategory,
    unit,
    units,
    viewed,
    carted,
    purchased,
    view_cart,
    view_cart_purchase,
    view_purchase,
    cart_view_purchase,
    purchase_before_view,
    purchase_without_view,
    SAFE_DIVIDE(view_cart, viewed) AS view_cart_rate,
    SAFE_DIVIDE(view_cart_purchase, view_cart) AS cart_purchase_rate,
    SAFE_DIVIDE(view_cart_purchase, viewed) AS view_cart_purchase_rate,
    SAFE_DIVIDE(view_purchase, viewed) AS view_purchase_rate,
    SAFE_DIVIDE(view_cart_purchase + view_purchase + cart_view_purchase, viewed) AS conversion_rate
FROM counted
