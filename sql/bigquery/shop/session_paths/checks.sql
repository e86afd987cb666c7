-- check: possible_values, severity: fail
SELECT
    place,
    path,
    sessions,
    all_sessions,
    share_of_sessions,
    purchasing_sessions,
    revenue
FROM shop.session_paths
WHERE
    event_date = @day
    AND (
        place NOT BETWEEN 1 AND 100
        OR sessions NOT BETWEEN 1 AND all_sessions
        OR ABS(share_of_sessions * all_sessions - sessions) > 0.001
        OR purchasing_sessions NOT BETWEEN 0 AND sessions
        OR revenue < 0
    );

-- check: every_session_counted, severity: fail
WITH expected AS (
    SELECT
        COUNT(*) AS expected_sessions,
        LEAST(COUNT(DISTINCT path), 100) AS expected_paths
    FROM shop.sessions
    WHERE event_date = @day
),

found AS (
    SELECT
        COALESCE(MAX(all_sessions), 0) AS found_sessions,
        COUNT(DISTINCT path) AS found_paths
    FROM shop.session_paths
    WHERE event_date = @day
)

SELECT
    expected.expected_sessions,
    found.found_sessions,
    expected.expected_paths,
    found.found_paths
FROM expected
CROSS JOIN found
WHERE
    expected.expected_sessions != found.found_sessions
    OR expected.expected_paths != found.found_paths;

-- check: no_path_of_almost_all, severity: warn
-- Nine of ten sessions on one path, of a hundred and more: steps are missing.
SELECT
    path,
    sessions,
    all_sessions
FROM shop.session_paths
WHERE event_date = @day AND all_sessions >= 100 AND sessions * 10 > all_sessions * 9;
