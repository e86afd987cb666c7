SELECT
    subcategory,
    event_type,
    SUM(events) AS events
FROM shop.purchase_conversion_rate
WHERE
    event_date BETWEEN @first_day AND @last_day
    AND (@subcategory IS NULL OR subcategory = @subcategory)
GROUP BY subcategory, event_type
ORDER BY subcategory, event_type
