# The dashboard on its own, in Cloud Run behind Identity-Aware Proxy: for analysts, who need no Airflow account. There is
# none unless dashboard_image names its image; docs/dashboard.md says how that is made.

locals {
  dashboard_service = "shopstream-dashboard"
  dashboards        = toset(var.dashboard_image == "" ? [] : ["dashboard"])
  iap_agent         = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-iap.iam.gserviceaccount.com"
}

# Release 6.50 of the provider knows iap_enabled of the newer google_cloud_run_v2_service in its beta alone; in this
# one it is an annotation.
resource "google_cloud_run_service" "dashboard" {
  for_each = local.dashboards
  name     = local.dashboard_service
  location = var.region

  metadata {
    annotations = {
      "run.googleapis.com/iap-enabled" = "true"
      "run.googleapis.com/ingress"     = "all"
    }
  }

  template {
    metadata {
      annotations = {
        # Each keeps its own answers; one serves many readers.
        "autoscaling.knative.dev/maxScale" = "2"
      }
    }
    spec {
      service_account_name  = google_service_account.dashboard["dashboard"].email
      container_concurrency = 80
      timeout_seconds       = 60
      containers {
        image = var.dashboard_image
        ports {
          container_port = 8092
        }
        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }
        dynamic "env" {
          for_each = local.dashboard_variables
          content {
            name  = env.key
            value = env.value
          }
        }
      }
    }
  }

  traffic {
    percent         = 100
    latest_revision = true
  }

  autogenerate_revision_name = true

  depends_on = [google_project_service.api]
}

locals {
  # What plugins/shopstream/settings.py reads.
  dashboard_variables = {
    SHOPSTREAM_PROJECT               = var.project
    SHOPSTREAM_REGION                = var.region
    SHOPSTREAM_CURRENCY              = var.currency
    SHOPSTREAM_BYTES_LIMIT_TIMES     = tostring(var.bytes_limit_times)
    SHOPSTREAM_SPANNER_INSTANCE      = google_spanner_instance.shopstream.name
    SHOPSTREAM_SPANNER_DATABASE      = google_spanner_database.shopstream.name
    SHOPSTREAM_DASHBOARD_AIRFLOW_URL = google_composer_environment.shopstream.config[0].airflow_uri
    # What Identity-Aware Proxy signs for; whatever came past it has no such signature, and is refused.
    SHOPSTREAM_DASHBOARD_IAP_AUDIENCE = join("/", [
      "/projects", data.google_project.this.number, "locations", var.region, "services", local.dashboard_service
    ])
  }
}

resource "google_service_account" "dashboard" {
  for_each     = local.dashboards
  account_id   = local.dashboard_service
  display_name = "shopstream dashboard"
  description  = "The dashboard on its own: reads, and writes nothing"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "dashboard_asks_bigquery" {
  for_each = local.dashboards
  project  = var.project
  role     = "roles/bigquery.jobUser"
  member   = google_service_account.dashboard["dashboard"].member
}

resource "google_bigquery_dataset_iam_member" "dashboard" {
  for_each   = var.dashboard_image == "" ? {} : google_bigquery_dataset.dataset
  dataset_id = each.value.dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = google_service_account.dashboard["dashboard"].member
}

resource "google_spanner_database_iam_member" "dashboard" {
  for_each = local.dashboards
  instance = google_spanner_instance.shopstream.name
  database = google_spanner_database.shopstream.name
  role     = "roles/spanner.databaseReader"
  member   = google_service_account.dashboard["dashboard"].member
}

# Nobody but Identity-Aware Proxy reaches the service.
resource "google_cloud_run_service_iam_member" "iap_invokes_dashboard" {
  for_each = local.dashboards
  service  = google_cloud_run_service.dashboard["dashboard"].name
  location = var.region
  role     = "roles/run.invoker"
  member   = local.iap_agent
}

resource "google_iap_web_cloud_run_service_iam_member" "readers" {
  for_each               = var.dashboard_image == "" ? [] : var.dashboard_readers
  cloud_run_service_name = google_cloud_run_service.dashboard["dashboard"].name
  location               = var.region
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}
