# What calls for a person. Airflow's own alerts (a failed task, a late run) are lines of its log; the others do
# not need Airflow to be alive. Each names the runbook that says what to do.

# Its id is drawn at random, once. Made from a name, such as the bucket's, it would be known to all who know the name.
resource "terraform_data" "alert" {}

locals {
  # In each line that calls for a person. Text from the data that stands in a log does not hold it, whoever wrote it.
  alert_id = terraform_data.alert.id

  channels = concat(
    [for channel in google_monitoring_notification_channel.email : channel.id], tolist(var.alert_channels)
  )

  # Dataflow shows the counters of beam_jobs/stream_events.py under these names.
  stream_counter = "dataflow_googleapis_com:job_user_counter{monitored_resource=\"dataflow_job\",job_name=\"shop-stream\",metric_name=\"%s\"}"

  # What alerts compare with their thresholds, and monitoring.tf shows.
  unacked_filter  = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.events_stream.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
  spanner_filter  = "resource.type = \"spanner_instance\" AND resource.labels.instance_id = \"${google_spanner_instance.shopstream.name}\" AND metric.type = \"spanner.googleapis.com/instance/cpu/utilization_by_priority\" AND metric.labels.priority = \"high\""
  healthy_filter  = "resource.type = \"cloud_composer_environment\" AND resource.labels.environment_name = \"${google_composer_environment.shopstream.name}\" AND metric.type = \"composer.googleapis.com/environment/healthy\""
  alert_filter    = "resource.type=\"cloud_composer_environment\" AND resource.labels.environment_name=\"${google_composer_environment.shopstream.name}\" AND \"SHOPSTREAM ALERT ${local.alert_id}\""
  digest_filter   = "resource.type=\"cloud_composer_environment\" AND resource.labels.environment_name=\"${google_composer_environment.shopstream.name}\" AND \"SHOPSTREAM DIGEST ${local.alert_id}\""
  published_query = "sum(increase(pubsub_googleapis_com:topic_send_message_operation_count{monitored_resource=\"pubsub_topic\",topic_id=\"${google_pubsub_topic.events.name}\"}[%s]))"
  rejected_share_query = join(" ", [
    "sum(increase(${format(local.stream_counter, "rejected")}[1h]))",
    "/ sum(increase(${format(local.stream_counter, "read")}[1h]))",
  ])
}

resource "google_monitoring_notification_channel" "email" {
  for_each     = var.alert_emails
  display_name = "shopstream: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "dag_failed" {
  display_name          = "shopstream: a DAG failed or is late"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "Airflow logged SHOPSTREAM ALERT"
    condition_matched_log {
      # plugins/shopstream/alerts.py writes it, with the DAG, the run, the task and the reason.
      filter = local.alert_filter
    }
  }

  alert_strategy {
    auto_close = "86400s"
    notification_rate_limit {
      period = "300s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The log line says which DAG, run and task, and why. Each DAG's page in Airflow says what a failure means and how to rerun. Runbook, by DAG: docs/runbooks/README.md."
  }
}

resource "google_monitoring_alert_policy" "digest" {
  display_name          = "shopstream: how the day was"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "Airflow logged SHOPSTREAM DIGEST"
    condition_matched_log {
      # plugins/shopstream/alerts.py writes it, once a day. A label holds at most 1,024 characters.
      filter           = local.digest_filter
      label_extractors = { words = "REGEXP_EXTRACT(textPayload, \"SHOPSTREAM DIGEST [^ ]+ (.*)\")" }
    }
  }

  alert_strategy {
    auto_close = "1800s"
    notification_rate_limit {
      period = "300s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "$${log.extracted_label.words} This calls nobody. Runbook, where it tells of a failure: docs/runbooks/README.md."
  }
}

resource "google_monitoring_alert_policy" "oldest_unacked" {
  display_name          = "shopstream: events wait too long"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "The oldest unacknowledged message is older than ${var.oldest_unacked_alert_seconds} s"
    condition_threshold {
      filter          = local.unacked_filter
      comparison      = "COMPARISON_GT"
      threshold_value = var.oldest_unacked_alert_seconds
      duration        = "300s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "The stream is down, stuck or too slow. Nothing is lost for 7 days. Look at the last run of keep_stream_alive: its log says what it saw and did. Runbook: docs/runbooks/stream-unhealthy.md."
  }
}

resource "google_monitoring_alert_policy" "no_rows" {
  display_name          = "shopstream: events are published, but none are accepted"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "No accepted event in ${var.no_rows_alert_minutes} minutes"
    condition_prometheus_query_language {
      # A quiet night is no failure, so only while somebody publishes.
      query = join(" ", [
        "${format(local.published_query, "${var.no_rows_alert_minutes}m")} > 0",
        "unless",
        "sum(increase(${format(local.stream_counter, "accepted")}[${var.no_rows_alert_minutes}m])) > 0",
      ])
      duration            = "300s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Either no stream runs, or it rejects everything. keep_stream_alive's log and shop.rejected_events tell which. A stream that was stopped on purpose (stop_stream) raises this too. Runbook: docs/runbooks/stream-unhealthy.md."
  }
}

resource "google_monitoring_alert_policy" "rejected_share" {
  display_name          = "shopstream: the stream rejects too many messages"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "More than ${var.rejected_share_alert * 100} % of an hour's messages were rejected"
    condition_prometheus_query_language {
      query               = "${local.rejected_share_query} > ${var.rejected_share_alert}"
      duration            = "600s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "shop.rejected_events holds each message with its reason. Most often the publisher has changed its format. A load with too many rejected lines asks at its gate instead, and alerts as a DAG. Runbook: docs/runbooks/rejected-rows.md."
  }
}

resource "google_monitoring_alert_policy" "spanner_cpu" {
  display_name          = "shopstream: Spanner is hot"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels

  conditions {
    display_name = "High-priority CPU is above ${var.spanner_cpu_alert * 100} %"
    condition_threshold {
      filter          = local.spanner_filter
      comparison      = "COMPARISON_GT"
      threshold_value = var.spanner_cpu_alert
      duration        = "900s"
      # A series is one database's share, of the users' or of the system's work: only their sum is the instance's.
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MEAN"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.instance_id"]
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Reads slow down. Where Spanner scales by itself it has had 15 minutes to: look whether it is at its maximum (spanner_processing_units), and whether a load or one key is the reason. Runbook: docs/runbooks/spanner-hot.md."
  }
}

resource "google_monitoring_alert_policy" "airflow_down" {
  display_name          = "shopstream: Airflow is down"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels

  conditions {
    display_name = "The environment of Composer is not healthy"
    condition_threshold {
      filter          = local.healthy_filter
      comparison      = "COMPARISON_LT"
      threshold_value = 0.5
      duration        = "900s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_FRACTION_TRUE"
      }
    }
  }

  conditions {
    display_name = "The environment of Composer tells nothing of itself"
    condition_absent {
      filter   = local.healthy_filter
      duration = "1800s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_FRACTION_TRUE"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "No DAG runs, so nothing else of Airflow alerts: no day is loaded, and a stream that dies stays down. Look at the environment's page in the console. Once it is up again, watch_days names the days that have no load. Runbook: docs/runbooks/load-failed.md."
  }
}
