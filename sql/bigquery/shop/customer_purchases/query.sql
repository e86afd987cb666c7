SELECT
    event_date,
    user_id,
    -- No session is an empty string, so the purchases without one count as one order.
    COUNT(DISTINCT COALESCE(user_session, '')) AS orders,
    COUNT(*) AS purchases,
    SUM(price) AS revenue
FROM shop.events
WHERE
    event_date = @day
    AND event_type = 'purchase'
GROUP BY event_date, user_id
