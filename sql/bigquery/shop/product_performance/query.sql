-- First by session, for a session that comes back to a product ten times converts once.
WITH sessions AS (
    SELECT
        event_date,
        product_id,
        MAX(category_code) AS category_code,
        MAX(brand) AS brand,
        session_key,
        COUNTIF(event_type = 'view') AS views,
        COUNTIF(event_type = 'cart') AS carts,
        COUNTIF(event_type = 'purchase') AS purchases,
        SUM(IF(event_type = 'purchase', price, 0)) AS revenue,
        COUNTIF(event_type = 'view' AND price > 0) AS priced_views,
        SUM(IF(event_type = 'view', price, 0)) AS viewed_price_sum,
        MIN(IF(event_type = 'view', event_time, NULL)) AS first_view,
        MAX(IF(event_type = 'purchase', event_time, NULL)) AS last_purchase
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day
    GROUP BY event_date, product_id, session_key
),

counted AS (
    SELECT
        event_date,
        product_id,
        MAX(category_code) AS category_code,
        MAX(brand) AS brand,
        SUM(views) AS views,
        SUM(carts) AS carts,
        SUM(purchases) AS purchases,
        SUM(revenue) AS revenue,
        SUM(priced_views) AS priced_views,
        SUM(viewed_price_sum) AS viewed_price_sum,
        ROUND(SAFE_DIVIDE(SUM(viewed_price_sum), SUM(priced_views)), 6) AS average_price_viewed,
        ROUND(SAFE_DIVIDE(SUM(revenue), SUM(purchases)), 6) AS average_price_paid,
        COUNTIF(session_key IS NOT NULL AND views > 0) AS viewing_sessions,
        COUNTIF(session_key IS NOT NULL AND first_view <= last_purchase) AS converted_sessions
    FROM sessions
    GROUP BY event_date, product_id
)

SELECT
    event_date,
    product_id,
    category_code,
    brand,
    views,
    carts,
    purchases,
    revenue,
    -- A millionth less where a quotient a little below a half of its 6th decimal became that half, of the 9
    -- decimals that NUMERIC keeps, and went up.
    average_price_viewed - IF(
        (average_price_viewed * priced_views - viewed_price_sum) * 2000000 > priced_views,
        NUMERIC '1' / 1000000,
        0
    ) AS average_price_viewed,
    average_price_paid - IF(
        (average_price_paid * purchases - revenue) * 2000000 > purchases,
        NUMERIC '1' / 1000000,
        0
    ) AS average_price_paid,
    viewing_sessions,
    converted_sessions,
    SAFE_DIVIDE(converted_sessions, viewing_sessions) AS conversion_rate
FROM counted
