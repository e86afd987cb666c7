WITH around AS (
    SELECT
        event_date,
        event_time,
        event_type,
        product_id,
        category_code,
        price,
        user_id,
        session_key,
        EXTRACT(HOUR FROM event_time) < 12 AS is_morning
    FROM shop_raw.events_deduplicated
    WHERE
        event_date BETWEEN DATE_SUB(@day, INTERVAL 1 DAY) AND DATE_ADD(@day, INTERVAL 1 DAY)
        AND session_key IS NOT NULL
),

marked AS (
    SELECT
        event_date,
        event_time,
        event_type,
        product_id,
        category_code,
        price,
        user_id,
        session_key,
        is_morning,
        MAX(IF(event_date < @day AND NOT is_morning, 1, 0)) OVER (PARTITION BY session_key) AS began_before,
        MAX(IF(event_date = @day AND NOT is_morning, 1, 0)) OVER (PARTITION BY session_key) AS goes_on
    FROM around
),

-- A morning's event is of the day before if its session was there on that afternoon: each is of one row.
kept AS (
    SELECT
        event_date,
        event_time,
        event_type,
        product_id,
        category_code,
        price,
        user_id,
        session_key,
        CONCAT(
            event_type, ' ', COALESCE(SPLIT(category_code, '.')[SAFE_OFFSET(1)], '(no sub-category)')
        ) AS step,
        CASE event_type WHEN 'view' THEN 1 WHEN 'cart' THEN 2 ELSE 3 END AS step_order,
        MIN(event_time) OVER (PARTITION BY session_key) AS started_at,
        MIN(IF(event_type = 'view', event_time, NULL)) OVER (PARTITION BY session_key) AS first_view
    FROM marked
    WHERE
        (event_date = @day AND NOT (is_morning AND began_before = 1))
        OR (event_date > @day AND is_morning AND goes_on = 1)
),

products AS (
    SELECT
        session_key,
        product_id,
        MIN(started_at) AS started_at,
        MAX(event_time) AS ended_at,
        MIN(IF(event_time = started_at, user_id, NULL)) AS user_id,
        MIN(IF(event_time = started_at, category_code, NULL)) AS landing_category_code,
        COUNT(*) AS events,
        COUNTIF(event_date > @day) AS events_after_midnight,
        COUNTIF(event_type = 'view') AS views,
        COUNTIF(event_type = 'cart') AS carts,
        COUNTIF(event_type = 'purchase') AS purchases,
        SUM(IF(event_type = 'purchase', price, 0)) AS revenue,
        MAX(IF(event_type = 'cart', price, NULL)) AS cart_value,
        MIN(first_view) AS first_view,
        MIN(IF(event_type = 'cart', event_time, NULL)) AS first_cart,
        MIN(IF(event_type = 'cart' AND event_time >= first_view, event_time, NULL)) AS first_cart_since_view,
        MAX(IF(event_type = 'purchase', event_time, NULL)) AS last_purchase
    FROM kept
    GROUP BY session_key, product_id
),

judged AS (
    SELECT
        session_key,
        product_id,
        started_at,
        ended_at,
        user_id,
        landing_category_code,
        events,
        events_after_midnight,
        views,
        carts,
        purchases,
        revenue,
        cart_value,
        first_view,
        first_cart,
        first_cart_since_view,
        last_purchase,
        first_cart IS NOT NULL AND COALESCE(last_purchase < first_cart, TRUE) AS is_abandoned
    FROM products
),

sessions AS (
    SELECT
        session_key,
        MIN(started_at) AS started_at,
        UNIX_MICROS(MAX(ended_at)) - UNIX_MICROS(MIN(started_at)) AS microseconds,
        MIN(user_id) AS user_id,
        MIN(landing_category_code) AS landing_category_code,
        SUM(events) AS events,
        SUM(events_after_midnight) AS events_after_midnight,
        SUM(views) AS views,
        SUM(carts) AS carts,
        SUM(purchases) AS purchases,
        COUNT(*) AS products,
        COUNT(first_cart) AS carted_products,
        COUNTIF(is_abandoned) AS abandoned_products,
        SUM(revenue) AS revenue,
        COALESCE(SUM(cart_value), 0) AS cart_value,
        SUM(IF(is_abandoned, cart_value, 0)) AS abandoned_value,
        MIN(first_view) AS first_view,
        MIN(first_cart) AS first_cart,
        MIN(first_cart_since_view) AS first_cart_since_view,
        MAX(last_purchase) AS last_purchase
    FROM judged
    GROUP BY session_key
),

stepped AS (
    SELECT
        session_key,
        event_time,
        step_order,
        step,
        LAG(step) OVER (PARTITION BY session_key ORDER BY event_time, step_order, step) AS step_before
    FROM kept
),

numbered AS (
    SELECT
        session_key,
        step,
        ROW_NUMBER() OVER (PARTITION BY session_key ORDER BY event_time, step_order, step) AS step_number
    FROM stepped
    WHERE step_before IS NULL OR step_before != step
),

paths AS (
    SELECT
        session_key,
        COUNT(*) AS steps,
        CONCAT(
            STRING_AGG(IF(step_number <= 6, step, NULL), ' > ' ORDER BY step_number),
            IF(COUNT(*) > 6, ' > ...', '')
        ) AS path
    FROM numbered
    GROUP BY session_key
),

-- In words only of the day: each session that is kept was there on it.
names AS (
    SELECT
        session_key,
        MIN(user_session) AS user_session
    FROM shop_raw.events_deduplicated
    WHERE event_date = @day AND session_key IS NOT NULL
    GROUP BY session_key
),

buyers AS (
    SELECT DISTINCT user_id
    FROM shop.customer_purchases
    WHERE event_date BETWEEN DATE_SUB(@day, INTERVAL 89 DAY) AND DATE_SUB(@day, INTERVAL 1 DAY)
)

SELECT
    @day AS event_date,
    names.user_session,
    sessions.user_id,
    buyers.user_id IS NOT NULL AS is_returning_customer,
    sessions.started_at,
    DIV(sessions.microseconds, 1000000) AS seconds,
    sessions.events,
    sessions.events_after_midnight,
    sessions.views,
    sessions.carts,
    sessions.purchases,
    sessions.products,
    sessions.carted_products,
    sessions.abandoned_products,
    sessions.revenue,
    sessions.cart_value,
    sessions.abandoned_value,
    sessions.landing_category_code,
    SPLIT(sessions.landing_category_code, '.')[SAFE_OFFSET(1)] AS landing_subcategory,
    CASE
        WHEN sessions.last_purchase IS NULL AND sessions.first_cart_since_view IS NOT NULL THEN 'view_cart'
        WHEN sessions.last_purchase IS NULL AND sessions.first_view IS NOT NULL THEN 'view'
        WHEN sessions.last_purchase IS NULL THEN 'cart'
        WHEN sessions.first_view IS NULL THEN 'purchase_without_view'
        WHEN sessions.first_view > sessions.last_purchase THEN 'purchase_before_view'
        WHEN sessions.first_cart_since_view <= sessions.last_purchase THEN 'view_cart_purchase'
        WHEN sessions.first_cart <= sessions.last_purchase THEN 'cart_view_purchase'
        ELSE 'view_purchase'
    END AS funnel,
    paths.steps,
    paths.path
FROM sessions
INNER JOIN paths ON sessions.session_key = paths.session_key
INNER JOIN names ON sessions.session_key = names.session_key
LEFT JOIN buyers ON sessions.user_id = buyers.user_id
