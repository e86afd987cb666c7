SELECT
    event_date,
    user_id,
    -- The purchases without a session count as one order.
    COUNT(DISTINCT COALESCE(session_key, b'')) AS orders,
    COUNT(*) AS purchases,
    SUM(price) AS revenue
FROM shop_raw.carts_and_purchases
WHERE
    event_date = @day
    AND event_type = 'purchase'
GROUP BY event_date, user_id
