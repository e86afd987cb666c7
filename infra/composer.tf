locals {
  # The one place that names the image. Without a build number Composer takes the newest build when it makes or
  # upgrades the environment. To change it: docs/runbooks/upgrades.md.
  composer_image = "composer-3-airflow-3.3.1"

  composer_plugins_folder = "/home/airflow/gcs/plugins"

  # High resilience wants two of each.
  composer_count = var.composer_high_resilience ? 2 : 1

  # What plugins/shopstream/settings.py reads. SHOPSTREAM_TEMPLATE_VERSION is set by `make deploy`.
  composer_variables = {
    SHOPSTREAM_PROJECT          = var.project
    SHOPSTREAM_REGION           = var.region
    SHOPSTREAM_BUCKET           = google_storage_bucket.data.name
    SHOPSTREAM_TEMP_BUCKET      = google_storage_bucket.dataflow.name
    SHOPSTREAM_SPANNER_INSTANCE = google_spanner_instance.shopstream.name
    SHOPSTREAM_SPANNER_DATABASE = google_spanner_database.shopstream.name
    SHOPSTREAM_TOPIC            = google_pubsub_topic.events.name
    SHOPSTREAM_SUBSCRIPTION     = google_pubsub_subscription.events_stream.name
    SHOPSTREAM_ALERT_ID         = local.alert_id
    SHOPSTREAM_EVENTS_KEEP_DAYS = tostring(var.events_keep_days)
    SHOPSTREAM_CURRENCY         = var.currency
    SHOPSTREAM_FORGET_KEY       = "${google_secret_manager_secret.forget_key.id}/versions/latest"
    SHOPSTREAM_PSEUDONYM_KEYS   = join(",", [for version in var.pseudonym_key_versions : "${google_secret_manager_secret.pseudonym_key.id}/versions/${version}"])
    SHOPSTREAM_SQL_DIR          = "${local.composer_plugins_folder}/sql"

    SHOPSTREAM_BYTES_LIMIT_TIMES = tostring(var.bytes_limit_times)

    # What Airflow and its providers warn themselves of in each task's log.
    PYTHONWARNINGS = "ignore:GitWildMatchPattern:DeprecationWarning,ignore:The `airflow.utils.operator_helpers.determine_kwargs` attribute:UserWarning"

    SHOPSTREAM_DATAFLOW_SUBNETWORK    = "regions/${var.region}/subnetworks/${google_compute_subnetwork.dataflow.name}"
    SHOPSTREAM_BATCH_SERVICE_ACCOUNT  = google_service_account.role["batch"].email
    SHOPSTREAM_BATCH_MACHINE_TYPE     = var.batch_machine_type
    SHOPSTREAM_BATCH_MAX_WORKERS      = tostring(var.batch_max_workers)
    SHOPSTREAM_STREAM_SERVICE_ACCOUNT = google_service_account.role["stream"].email
    SHOPSTREAM_STREAM_MACHINE_TYPE    = var.stream_machine_type
    SHOPSTREAM_STREAM_MAX_WORKERS     = tostring(var.stream_max_workers)
  }

  # Composer wants a name and, apart from it, extras and version. A comment begins with no letter.
  composer_packages = {
    for package in regexall("(?m)^([a-z0-9][a-z0-9._-]*)(\\S+)$", file("${path.module}/composer-requirements.txt")) :
    package[0] => package[1]
  }
}

resource "google_composer_environment" "shopstream" {
  name   = "shopstream"
  region = var.region

  storage_config {
    bucket = google_storage_bucket.composer.name
  }

  config {
    environment_size = var.composer_environment_size
    resilience_mode  = var.composer_high_resilience ? "HIGH_RESILIENCE" : "STANDARD_RESILIENCE"

    node_config {
      service_account = google_service_account.role["composer"].email
    }

    software_config {
      image_version           = local.composer_image
      env_variables           = local.composer_variables
      pypi_packages           = local.composer_packages
      web_server_plugins_mode = "ENABLED"

      # A new DAG waits until somebody starts it, so that nothing runs before the schemas are applied.
      airflow_config_overrides = {
        core-dags_are_paused_at_creation = "True"
      }
    }

    workloads_config {
      scheduler {
        count      = local.composer_count
        cpu        = 1
        memory_gb  = 4
        storage_gb = 1
      }
      dag_processor {
        count      = local.composer_count
        cpu        = 1
        memory_gb  = 4
        storage_gb = 1
      }
      # No task is deferrable, but Airflow expects one.
      triggerer {
        count     = local.composer_count
        cpu       = 0.5
        memory_gb = 1
      }
      web_server {
        cpu        = 1
        memory_gb  = 4
        storage_gb = 1
      }
      worker {
        min_count  = var.composer_workers.min
        max_count  = var.composer_workers.max
        cpu        = var.composer_workers.cpu
        memory_gb  = var.composer_workers.memory_gb
        storage_gb = 10
      }
    }

    # Loads run after midnight UTC, so Composer changes itself in the afternoon; it asks for 12 hours a week.
    maintenance_window {
      start_time = "2026-01-06T13:00:00Z"
      end_time   = "2026-01-06T17:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=TU,WE,TH"
    }

    dynamic "recovery_config" {
      for_each = var.composer_high_resilience ? ["nightly"] : []
      content {
        scheduled_snapshots_config {
          enabled                    = true
          snapshot_location          = "${google_storage_bucket.composer.url}/snapshots"
          snapshot_creation_schedule = "0 12 * * *"
          time_zone                  = "UTC"
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [config[0].software_config[0].env_variables["SHOPSTREAM_TEMPLATE_VERSION"]]
  }

  depends_on = [
    google_project_service.api,
    google_project_iam_member.role,
    google_storage_bucket_iam_member.role,
  ]
}
