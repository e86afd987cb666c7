SELECT
    event_date,
    product_id,
    user_id,
    session_key,
    MIN(event_time) AS first_view
FROM shop_raw.events_deduplicated
WHERE event_date = @day AND event_type = 'view'
GROUP BY event_date, product_id, user_id, session_key
