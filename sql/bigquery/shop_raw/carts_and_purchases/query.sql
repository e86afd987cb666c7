SELECT
    event_date,
    event_time,
    event_type,
    product_id,
    category_level_2,
    price,
    user_id,
    session_key
FROM shop_raw.events_deduplicated
WHERE event_date = @day AND event_type IN ('cart', 'purchase')
