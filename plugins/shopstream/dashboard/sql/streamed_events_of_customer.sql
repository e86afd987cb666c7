SELECT
    event_time,
    event_id,
    event_type,
    product_id,
    category_code,
    brand,
    price,
    user_session
FROM shop_raw.events_stream
WHERE event_date BETWEEN @first_day AND @last_day AND user_id = @user_id
QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY publish_time) = 1
ORDER BY event_time DESC, event_id ASC
