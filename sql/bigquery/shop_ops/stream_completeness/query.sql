WITH both_paths AS (
    SELECT
        event_id,
        event_type,
        1 AS in_batch,
        0 AS in_stream
    FROM shop_raw.events_batch
    WHERE event_date = @day
    UNION ALL
    SELECT
        event_id,
        event_type,
        0 AS in_batch,
        1 AS in_stream
    FROM shop_raw.events_stream
    WHERE event_date = @day
),

found_events AS (
    SELECT
        event_type,
        MAX(in_batch) AS in_batch,
        MAX(in_stream) AS in_stream
    FROM both_paths
    GROUP BY event_type, event_id
),

counted AS (
    SELECT
        event_type,
        SUM(in_batch) AS batch_events,
        SUM(in_stream) AS stream_events,
        SUM(in_batch * (1 - in_stream)) AS only_in_batch,
        SUM((1 - in_batch) * in_stream) AS only_in_stream
    FROM found_events
    GROUP BY event_type
),

-- Had the stream run by then? It had brought events of the days before, and not only in a later simulation.
-- If it had, a day without any event is a loss; else there was no stream.
earlier AS (
    SELECT COUNT(*) AS stream_events
    FROM shop_raw.events_stream
    WHERE
        event_date BETWEEN DATE_SUB(@day, INTERVAL 7 DAY) AND DATE_SUB(@day, INTERVAL 1 DAY)
        AND DATE(publish_time) <= @day
)

SELECT
    @day AS event_date,
    counted.event_type,
    counted.batch_events,
    counted.stream_events,
    counted.only_in_batch,
    counted.only_in_stream,
    CASE
        WHEN earlier.stream_events = 0 AND SUM(counted.stream_events) OVER () = 0 THEN 'absent'
        WHEN
            counted.only_in_batch > 0
            AND counted.only_in_batch >= @fail_share * counted.batch_events
            THEN 'fail'
        WHEN
            counted.only_in_batch > 0
            AND counted.only_in_batch >= @warn_share * counted.batch_events
            THEN 'warn'
        WHEN
            counted.only_in_stream > 0
            AND counted.only_in_stream >= @warn_share * counted.stream_events
            THEN 'warn'
        ELSE 'ok'
    END AS level,
    CURRENT_TIMESTAMP() AS compared_at
FROM counted
CROSS JOIN earlier
