WITH counted AS (
    SELECT
        event_date,
        SUM(events) AS events,
        SUM(IF(event_type = 'view', events, 0)) AS views,
        SUM(IF(event_type = 'view', users, 0)) AS viewers
    FROM shop.daily_event_count
    WHERE event_date BETWEEN @first_day AND @last_day
    GROUP BY event_date
),

sold AS (
    SELECT
        event_date,
        orders,
        revenue
    FROM shop.revenue_daily
    WHERE event_date BETWEEN @first_day AND @last_day
),

sessions AS (
    SELECT
        event_date,
        viewed,
        view_cart_purchase + view_purchase + cart_view_purchase AS converted
    FROM shop.purchase_funnels
    WHERE event_date BETWEEN @first_day AND @last_day AND scope = 'shop' AND unit = 'session'
),

bought AS (
    SELECT COUNT(DISTINCT user_id) AS buyers
    FROM shop.customer_purchases
    WHERE event_date BETWEEN @first_day AND @last_day
)

SELECT
    counted.event_date,
    counted.events,
    counted.views,
    counted.viewers,
    sold.orders,
    sold.revenue,
    sessions.viewed AS viewing_sessions,
    sessions.converted AS converted_sessions,
    bought.buyers AS buyers_of_the_range
FROM counted
LEFT JOIN sold ON counted.event_date = sold.event_date
LEFT JOIN sessions ON counted.event_date = sessions.event_date
CROSS JOIN bought
ORDER BY counted.event_date
