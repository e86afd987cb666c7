-- First by session, for a session that comes back to a brand ten times converts once.
WITH sessions AS (
    SELECT
        event_date,
        brand,
        user_session,
        COUNTIF(event_type = 'view') AS views,
        COUNTIF(event_type = 'cart') AS carts,
        COUNTIF(event_type = 'purchase') AS purchases,
        SUM(IF(event_type = 'purchase', price, 0)) AS revenue,
        COUNTIF(event_type = 'view' AND price > 0) AS priced_views,
        SUM(IF(event_type = 'view', price, 0)) AS viewed_price_sum,
        MIN(IF(event_type = 'view', event_time, NULL)) AS first_view,
        MAX(IF(event_type = 'purchase', event_time, NULL)) AS last_purchase
    FROM shop.events
    WHERE event_date = @day
    GROUP BY event_date, brand, user_session
),

counted AS (
    SELECT
        event_date,
        brand,
        SUM(views) AS views,
        SUM(carts) AS carts,
        SUM(purchases) AS purchases,
        SUM(revenue) AS revenue,
        SUM(priced_views) AS priced_views,
        SUM(viewed_price_sum) AS viewed_price_sum,
        COUNTIF(user_session IS NOT NULL AND views > 0) AS viewing_sessions,
        COUNTIF(user_session IS NOT NULL AND first_view <= last_purchase) AS converted_sessions
    FROM sessions
    GROUP BY event_date, brand
)

SELECT
    event_date,
    brand,
    views,
    carts,
    purchases,
    revenue,
    -- Rounded in billionths, to thousands of them: NUMERIC keeps 9 decimals of a quotient, so that one a
    -- little below a half of the 6th would become that half, and go up. The last ROUND is for engines that
    -- divide as FLOAT64.
    ROUND(
        ROUND(SAFE_DIVIDE(viewed_price_sum * 1000000000, priced_views), -3) / NUMERIC '1000000000', 6
    ) AS average_price_viewed,
    ROUND(
        ROUND(SAFE_DIVIDE(revenue * 1000000000, purchases), -3) / NUMERIC '1000000000', 6
    ) AS average_price_paid,
    viewing_sessions,
    converted_sessions,
    SAFE_DIVIDE(converted_sessions, viewing_sessions) AS conversion_rate
FROM counted
