-- What a day's figures are made of, for the whole shop (subcategory is NULL) and for each sub-category. Only
-- of days that a load has published and whose summaries were built since: no row is then no event.
WITH built AS (
    SELECT
        event_date,
        table_name,
        MAX(checked_at) AS checked_at
    FROM shop_ops.check_results
    WHERE
        event_date BETWEEN @first_day AND @last_day
        AND table_name IN (
            'shop.daily_event_count',
            'shop.revenue_daily',
            'shop.cart_abandonment',
            'shop.purchase_conversion_rate'
        )
    GROUP BY event_date, table_name
),

published AS (
    SELECT days.event_date
    FROM shop.days AS days
    INNER JOIN built
        ON
            days.event_date = built.event_date
            AND days.published_at <= built.checked_at
    WHERE
        days.event_date BETWEEN @first_day AND @last_day
        AND NOT days.is_provisional
    GROUP BY days.event_date
    HAVING COUNT(*) = 4
),

counted AS (
    SELECT
        event_date,
        SUM(events) AS events,
        SUM(IF(event_type = 'view', events, 0)) AS views,
        SUM(IF(event_type = 'view', users, 0)) AS viewers,
        SUM(IF(event_type = 'purchase', events, 0)) AS purchases
    FROM shop.daily_event_count
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY event_date
),

in_subcategories AS (
    SELECT
        event_date,
        subcategory,
        SUM(events) AS events,
        SUM(IF(event_type = 'view', events, 0)) AS views,
        SUM(IF(event_type = 'purchase', events, 0)) AS purchases
    FROM shop.purchase_conversion_rate
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY event_date, subcategory
),

categorised AS (
    SELECT
        event_date,
        SUM(events) AS events
    FROM in_subcategories
    GROUP BY event_date
),

carts_of_subcategories AS (
    SELECT
        event_date,
        subcategory,
        SUM(carts) AS carts,
        SUM(abandoned_carts) AS abandoned_carts
    FROM shop.cart_abandonment
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY event_date, subcategory
),

carts_of_shop AS (
    SELECT
        event_date,
        SUM(carts) AS carts,
        SUM(abandoned_carts) AS abandoned_carts
    FROM carts_of_subcategories
    GROUP BY event_date
),

orders AS (
    SELECT
        event_date,
        buyers,
        orders,
        CAST(revenue AS FLOAT64) AS revenue
    FROM shop.revenue_daily
    WHERE event_date BETWEEN @first_day AND @last_day
)

SELECT
    published.event_date,
    CAST(NULL AS STRING) AS subcategory,
    COALESCE(counted.events, 0) AS events,
    COALESCE(counted.views, 0) AS views,
    COALESCE(counted.viewers, 0) AS viewers,
    COALESCE(counted.purchases, 0) AS purchases,
    COALESCE(orders.buyers, 0) AS buyers,
    COALESCE(orders.orders, 0) AS orders,
    COALESCE(orders.revenue, 0) AS revenue,
    COALESCE(carts_of_shop.carts, 0) AS carts,
    COALESCE(carts_of_shop.abandoned_carts, 0) AS abandoned_carts,
    COALESCE(counted.events, 0) - COALESCE(categorised.events, 0) AS without_category
FROM published
LEFT JOIN counted ON published.event_date = counted.event_date
LEFT JOIN orders ON published.event_date = orders.event_date
LEFT JOIN carts_of_shop ON published.event_date = carts_of_shop.event_date
LEFT JOIN categorised ON published.event_date = categorised.event_date
UNION ALL
SELECT
    published.event_date,
    in_subcategories.subcategory,
    in_subcategories.events,
    in_subcategories.views,
    0 AS viewers,
    in_subcategories.purchases,
    0 AS buyers,
    0 AS orders,
    0 AS revenue,
    COALESCE(carts_of_subcategories.carts, 0) AS carts,
    COALESCE(carts_of_subcategories.abandoned_carts, 0) AS abandoned_carts,
    0 AS without_category
FROM published
INNER JOIN in_subcategories ON published.event_date = in_subcategories.event_date
LEFT JOIN carts_of_subcategories
    ON
        in_subcategories.event_date = carts_of_subcategories.event_date
        AND in_subcategories.subcategory = carts_of_subcategories.subcategory
