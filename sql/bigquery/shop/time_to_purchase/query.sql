WITH bought AS (
    SELECT
        unit,
        IF(unit = 'session', session_key, NULL) AS session_key,
        IF(unit = 'customer', user_id, NULL) AS user_id,
        product_id,
        category_level_2,
        event_time
    FROM shop_raw.carts_and_purchases
    CROSS JOIN UNNEST(['session', 'customer']) AS unit
    WHERE
        event_date = @day
        AND event_type = 'purchase'
        AND (unit = 'customer' OR session_key IS NOT NULL)
),

purchases AS (
    SELECT
        unit,
        session_key,
        user_id,
        product_id,
        MAX(category_level_2) AS subcategory,
        MIN(event_time) AS purchased_at
    FROM bought
    GROUP BY unit, session_key, user_id, product_id
),

-- Of whole days the first view of each is enough. Of the first only a part is within the 30 times 24 hours.
views AS (
    SELECT
        session_key,
        user_id,
        product_id,
        first_view AS event_time
    FROM shop_raw.product_views
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 29 DAY) AND @day
    UNION ALL
    SELECT
        session_key,
        user_id,
        product_id,
        event_time
    FROM shop_raw.events_deduplicated
    WHERE event_date = DATE_SUB(@day, INTERVAL 30 DAY) AND event_type = 'view'
),

viewed AS (
    SELECT
        purchases.unit,
        purchases.subcategory,
        purchases.purchased_at,
        MIN(views.event_time) AS viewed_at
    FROM purchases
    LEFT JOIN views
        ON
            purchases.session_key = views.session_key
            AND purchases.product_id = views.product_id
            AND views.event_time
            BETWEEN TIMESTAMP_SUB(purchases.purchased_at, INTERVAL 30 DAY) AND purchases.purchased_at
    WHERE purchases.unit = 'session'
    GROUP BY
        purchases.unit,
        purchases.subcategory,
        purchases.purchased_at,
        purchases.session_key,
        purchases.product_id
    UNION ALL
    SELECT
        purchases.unit,
        purchases.subcategory,
        purchases.purchased_at,
        MIN(views.event_time) AS viewed_at
    FROM purchases
    LEFT JOIN views
        ON
            purchases.user_id = views.user_id
            AND purchases.product_id = views.product_id
            AND views.event_time
            BETWEEN TIMESTAMP_SUB(purchases.purchased_at, INTERVAL 30 DAY) AND purchases.purchased_at
    WHERE purchases.unit = 'customer'
    GROUP BY
        purchases.unit,
        purchases.subcategory,
        purchases.purchased_at,
        purchases.user_id,
        purchases.product_id
),

times AS (
    SELECT
        unit,
        subcategory,
        UNIX_MICROS(purchased_at) - UNIX_MICROS(viewed_at) AS microseconds
    FROM viewed
),

leveled AS (
    SELECT
        times.unit,
        scope,
        IF(scope = 'subcategory', times.subcategory, NULL) AS subcategory,
        DIV(times.microseconds, 1000000) AS seconds
    FROM times
    CROSS JOIN UNNEST(['shop', 'subcategory']) AS scope
),

ranked AS (
    SELECT
        unit,
        scope,
        subcategory,
        seconds,
        ROW_NUMBER() OVER (PARTITION BY unit, scope, subcategory, seconds IS NULL ORDER BY seconds) AS place,
        COUNT(seconds) OVER (PARTITION BY unit, scope, subcategory) AS viewed_purchases
    FROM leveled
)

SELECT
    @day AS event_date,
    scope,
    subcategory,
    unit,
    COUNT(*) AS purchases,
    COUNT(seconds) AS viewed_purchases,
    COUNTIF(seconds <= 60) AS up_to_1_minute,
    COUNTIF(seconds <= 600) AS up_to_10_minutes,
    COUNTIF(seconds <= 3600) AS up_to_1_hour,
    COUNTIF(seconds <= 86400) AS up_to_1_day,
    COUNTIF(seconds <= 604800) AS up_to_7_days,
    -- The least time that so many, or more, do not exceed.
    MIN(IF(place * 4 >= viewed_purchases, seconds, NULL)) AS first_quartile_seconds,
    MIN(IF(place * 2 >= viewed_purchases, seconds, NULL)) AS median_seconds,
    MIN(IF(place * 4 >= viewed_purchases * 3, seconds, NULL)) AS third_quartile_seconds,
    MIN(IF(place * 10 >= viewed_purchases * 9, seconds, NULL)) AS ninth_decile_seconds
FROM ranked
GROUP BY scope, subcategory, unit
