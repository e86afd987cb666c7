SELECT
    event_id,
    event_date,
    event_time,
    event_type,
    product_id,
    category_code,
    category_level_2,
    brand,
    price,
    user_id,
    user_session,
    MD5(user_session) AS session_key
FROM shop.events
WHERE event_date = @day
