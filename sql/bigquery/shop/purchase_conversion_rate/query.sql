WITH counted AS (
    SELECT
        event_date,
        category_level_2 AS subcategory,
        event_type,
        COUNT(*) AS events
    FROM shop_raw.events_deduplicated
    WHERE
        event_date = @day
        AND category_level_2 IS NOT NULL
    GROUP BY event_date, subcategory, event_type
)

SELECT
    event_date,
    subcategory,
    event_type,
    events,
    events / SUM(events) OVER (PARTITION BY subcategory) AS share_of_events,
    SAFE_DIVIDE(
        SUM(IF(event_type = 'purchase', events, 0)) OVER (PARTITION BY subcategory),
        SUM(IF(event_type = 'view', events, 0)) OVER (PARTITION BY subcategory)
    ) AS purchases_per_view
FROM counted
