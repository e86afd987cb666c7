WITH counted AS (
    SELECT
        path,
        COUNT(*) AS sessions,
        COUNTIF(purchases > 0) AS purchasing_sessions,
        SUM(revenue) AS revenue
    FROM shop.sessions
    WHERE event_date = @day
    GROUP BY path
),

ranked AS (
    SELECT
        path,
        sessions,
        purchasing_sessions,
        revenue,
        ROW_NUMBER() OVER (ORDER BY sessions DESC, path ASC) AS place,
        SUM(sessions) OVER () AS all_sessions
    FROM counted
)

SELECT
    @day AS event_date,
    place,
    path,
    sessions,
    all_sessions,
    sessions / all_sessions AS share_of_sessions,
    purchasing_sessions,
    revenue
FROM ranked
WHERE place <= 100
