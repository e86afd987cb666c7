SELECT
    event_date,
    figure,
    subcategory,
    finding
FROM shop_ops.figure_findings
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY event_date DESC, subcategory ASC, figure ASC
LIMIT 100
