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

all_paths AS (
    SELECT SUM(sessions) AS all_sessions
    FROM counted
),

most_frequent AS (
    SELECT
        path,
        sessions,
        purchasing_sessions,
        revenue
    FROM counted
    ORDER BY sessions DESC, path ASC
    LIMIT 100
)

SELECT
    @day AS event_date,
    ROW_NUMBER() OVER (ORDER BY most_frequent.sessions DESC, most_frequent.path ASC) AS place,
    most_frequent.path,
    most_frequent.sessions,
    all_paths.all_sessions,
    most_frequent.sessions / all_paths.all_sessions AS share_of_sessions,
    most_frequent.purchasing_sessions,
    most_frequent.revenue
FROM most_frequent
CROSS JOIN all_paths
