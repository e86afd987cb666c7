# The figures that alerts watch, on one page of Cloud Monitoring, each with its alert's threshold.

locals {
  # Title, unit, what is shown (a filter with its aligner, or queries), and where the alert begins.
  charts = [
    {
      title     = "Oldest message that waits, in seconds"
      series    = [{ filter = local.unacked_filter, aligner = "ALIGN_MAX", reducer = "REDUCE_MAX" }]
      queries   = []
      threshold = [var.oldest_unacked_alert_seconds]
    },
    {
      title  = "Events of an hour: published, read, accepted, rejected"
      series = []
      queries = concat(
        [format(local.published_query, "1h")],
        [for name in ["read", "accepted", "rejected"] : "sum(increase(${format(local.stream_counter, name)}[1h]))"],
      )
      threshold = []
    },
    {
      title     = "Share of an hour's messages that was rejected"
      series    = []
      queries   = [local.rejected_share_query]
      threshold = [var.rejected_share_alert]
    },
    {
      title     = "Spanner: high-priority CPU"
      series    = [{ filter = local.spanner_filter, aligner = "ALIGN_MEAN", reducer = "REDUCE_SUM" }]
      queries   = []
      threshold = [var.spanner_cpu_alert]
    },
    {
      title     = "Composer: healthy"
      series    = [{ filter = local.healthy_filter, aligner = "ALIGN_FRACTION_TRUE", reducer = "REDUCE_MEAN" }]
      queries   = []
      threshold = [0.5]
    },
  ]
}

resource "google_monitoring_dashboard" "shopstream" {
  dashboard_json = jsonencode({
    displayName = "shopstream"
    mosaicLayout = {
      columns = 12
      tiles = concat(
        [
          for number, chart in local.charts : {
            xPos   = 6 * (number % 2)
            yPos   = 4 * floor(number / 2)
            width  = 6
            height = 4
            widget = {
              title = chart.title
              xyChart = {
                dataSets = concat(
                  [
                    for one in chart.series : {
                      plotType = "LINE"
                      timeSeriesQuery = {
                        timeSeriesFilter = {
                          filter = one.filter
                          aggregation = {
                            alignmentPeriod    = "60s"
                            perSeriesAligner   = one.aligner
                            crossSeriesReducer = one.reducer
                          }
                        }
                      }
                    }
                  ],
                  [for query in chart.queries : { plotType = "LINE", timeSeriesQuery = { prometheusQuery = query } }],
                )
                thresholds = [for value in chart.threshold : { value = value }]
              }
            }
          }
        ],
        [
          {
            xPos   = 6
            yPos   = 8
            width  = 6
            height = 4
            widget = {
              title     = "Lines that call for a person"
              logsPanel = { filter = local.alert_filter, resourceNames = ["projects/${var.project}"] }
            }
          },
          {
            xPos   = 0
            yPos   = 12
            width  = 6
            height = 4
            widget = {
              title     = "How each day was"
              logsPanel = { filter = local.digest_filter, resourceNames = ["projects/${var.project}"] }
            }
          }
        ],
      )
    }
  })

  depends_on = [google_project_service.api]
}
