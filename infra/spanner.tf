locals {
  spanner_autoscales = var.spanner_processing_units.min < var.spanner_processing_units.max
}

resource "google_spanner_instance" "shopstream" {
  name         = "shopstream"
  display_name = "shopstream"
  config       = "regional-${var.region}"

  # Spanner scales by itself only from the edition ENTERPRISE on.
  edition          = local.spanner_autoscales ? "ENTERPRISE" : "STANDARD"
  processing_units = local.spanner_autoscales ? null : var.spanner_processing_units.min

  dynamic "autoscaling_config" {
    for_each = local.spanner_autoscales ? [var.spanner_processing_units] : []
    content {
      autoscaling_limits {
        min_processing_units = autoscaling_config.value.min
        max_processing_units = autoscaling_config.value.max
      }
      autoscaling_targets {
        high_priority_cpu_utilization_percent = 65
        storage_utilization_percent           = 90
      }
    }
  }

  depends_on = [google_project_service.api]
}

# Its tables are the business of sql/spanner, which the DAG apply_schemas applies.
resource "google_spanner_database" "shopstream" {
  instance = google_spanner_instance.shopstream.name
  name     = "shopstream"

  version_retention_period = "7d"
  enable_drop_protection   = var.deletion_protection
  deletion_protection      = var.deletion_protection

  lifecycle {
    ignore_changes = [ddl]
  }
}
