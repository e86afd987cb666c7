# The shop's files: see "The way of the data" in docs/design.md for what is under which prefix.
resource "google_storage_bucket" "data" {
  name     = "${var.project}-shopstream"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  # What was deleted by mistake can be restored for a week.
  soft_delete_policy {
    retention_duration_seconds = 7 * 24 * 3600
  }

  lifecycle_rule {
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
    condition {
      age                   = 30
      matches_prefix        = ["exports/", "landing/"]
      matches_storage_class = ["STANDARD"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.landing_keep_days
      matches_prefix = ["exports/", "landing/"]
    }
  }

  # BigQuery holds these rows; the files are for looking at a load of the last weeks.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 30
      matches_prefix = ["accepted/", "rejected/"]
    }
  }

  # Lists of customers to forget, of runs that did not come to their end; one that does deletes its list.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 14
      matches_prefix = ["forget/"]
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.api]
}

# Dataflow's own files, written and deleted with each job: what is restored of them is of no use, and would be paid for.
resource "google_storage_bucket" "dataflow" {
  name     = "${var.project}-shopstream-dataflow"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # Not staging/: a stream that runs for months fetches its files from there whenever it gets a new worker.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["temp/"]
    }
  }

  depends_on = [google_project_service.api]
}

# The environment's own: dags/, plugins/, logs. `make deploy` writes it.
resource "google_storage_bucket" "composer" {
  name     = "${var.project}-shopstream-composer"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 90
      matches_prefix = ["logs/"]
    }
  }

  depends_on = [google_project_service.api]
}
