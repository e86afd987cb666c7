# Who may do what; docs/permissions.md says why, and a test holds the two against each other.

locals {
  accounts = {
    composer  = "Airflow: launches Dataflow, checks and publishes loads, applies schemas"
    batch     = "The Dataflow workers that load a day"
    stream    = "The Dataflow workers of the stream"
    publisher = "The shop's site: publishes events"
    deployer  = "Deploys a version: images, templates, DAGs"
  }

  custom_roles = { for name, role in {
    bigquery_appender = google_project_iam_custom_role.bigquery_appender
    composer_operator = google_project_iam_custom_role.composer_operator
    spanner_writer    = google_project_iam_custom_role.spanner_writer
  } : name => "projects/${var.project}/roles/${role.role_id}" }

  project_roles = {
    composer = [
      "roles/bigquery.user",
      "roles/composer.worker",
      "roles/dataflow.developer",
      "roles/monitoring.viewer",
    ]
    batch    = ["roles/dataflow.worker"]
    stream   = ["roles/dataflow.worker"]
    deployer = ["roles/composer.user"]
  }

  # The prefixes of the data bucket that an account may read and write; [] is all of it.
  bucket_prefixes = {
    composer = []
    batch    = ["accepted/", "landing/", "loads/", "rejected/"]
    deployer = ["releases/", "templates/"]
  }
}

resource "google_service_account" "role" {
  for_each     = local.accounts
  account_id   = "shopstream-${each.key}"
  display_name = "shopstream ${each.key}"
  description  = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "role" {
  for_each = merge([
    for account, roles in local.project_roles : { for role in roles : "${account} ${role}" => [account, role] }
  ]...)
  project = var.project
  role    = each.value[1]
  member  = google_service_account.role[each.value[0]].member
}

# Storage

resource "google_storage_bucket_iam_member" "dataflow" {
  for_each = toset(["batch", "stream"])
  bucket   = google_storage_bucket.dataflow.name
  role     = "roles/storage.objectUser"
  member   = google_service_account.role[each.key].member
}

resource "google_storage_bucket_iam_member" "role" {
  for_each = local.bucket_prefixes
  bucket   = google_storage_bucket.data.name
  role     = "roles/storage.objectUser"
  member   = google_service_account.role[each.key].member

  dynamic "condition" {
    for_each = length(each.value) > 0 ? [each.value] : []
    content {
      title = "only ${join(", ", condition.value)}"
      # The bucket itself is what objects are listed in.
      expression = join(" || ", concat(
        ["resource.type == \"storage.googleapis.com/Bucket\""],
        [
          for prefix in condition.value :
          "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.data.name}/objects/${prefix}\")"
        ],
      ))
    }
  }
}

resource "google_storage_bucket_iam_member" "deployer_writes_dags" {
  bucket = google_storage_bucket.composer.name
  role   = "roles/storage.objectUser"
  member = google_service_account.role["deployer"].member
}

# Spanner

resource "google_spanner_database_iam_member" "composer" {
  instance = google_spanner_instance.shopstream.name
  database = google_spanner_database.shopstream.name
  role     = "roles/spanner.databaseUser"
  member   = google_service_account.role["composer"].member
}

resource "google_spanner_database_iam_member" "composer_data_boost" {
  instance = google_spanner_instance.shopstream.name
  database = google_spanner_database.shopstream.name
  role     = "roles/spanner.databaseReaderWithDataBoost"
  member   = google_service_account.role["composer"].member
}

resource "google_project_iam_custom_role" "spanner_writer" {
  role_id     = "shopstreamSpannerWriter"
  title       = "shopstream: writes rows to Spanner"
  description = "Commits rows; reads none and changes no schema."
  permissions = [
    "spanner.databases.beginOrRollbackReadWriteTransaction",
    "spanner.databases.get",
    "spanner.databases.write",
    "spanner.sessions.create",
    "spanner.sessions.delete",
    "spanner.sessions.get",
  ]

  depends_on = [google_project_service.api]
}

resource "google_spanner_database_iam_member" "batch" {
  instance = google_spanner_instance.shopstream.name
  database = google_spanner_database.shopstream.name
  role     = local.custom_roles["spanner_writer"]
  member   = google_service_account.role["batch"].member
}

# BigQuery

resource "google_bigquery_dataset_iam_member" "composer" {
  for_each   = google_bigquery_dataset.dataset
  dataset_id = each.value.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.role["composer"].member
}

resource "google_project_iam_custom_role" "bigquery_appender" {
  role_id     = "shopstreamBigqueryAppender"
  title       = "shopstream: appends rows to BigQuery"
  description = "Streams rows into tables; reads none and makes none."
  permissions = ["bigquery.tables.get", "bigquery.tables.updateData"]

  depends_on = [google_project_service.api]
}

resource "google_bigquery_dataset_iam_member" "stream" {
  dataset_id = google_bigquery_dataset.dataset["shop_raw"].dataset_id
  role       = local.custom_roles["bigquery_appender"]
  member     = google_service_account.role["stream"].member
}

# Pub/Sub

resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = toset(["composer", "publisher"])
  topic    = google_pubsub_topic.events.id
  role     = "roles/pubsub.publisher"
  member   = google_service_account.role[each.key].member
}

resource "google_pubsub_subscription_iam_member" "stream" {
  for_each     = toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"])
  subscription = google_pubsub_subscription.events_stream.id
  role         = each.value
  member       = google_service_account.role["stream"].member
}

# Secrets

resource "google_secret_manager_secret_iam_member" "composer" {
  secret_id = google_secret_manager_secret.forget_key.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.role["composer"].member
}

resource "google_secret_manager_secret_iam_member" "pseudonyms" {
  for_each  = toset(["batch", "composer", "stream"])
  secret_id = google_secret_manager_secret.pseudonym_key.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.role[each.key].member
}

# Images

resource "google_artifact_registry_repository_iam_member" "role" {
  for_each = {
    batch    = "roles/artifactregistry.reader"
    stream   = "roles/artifactregistry.reader"
    deployer = "roles/artifactregistry.writer"
  }
  repository = google_artifact_registry_repository.shopstream.name
  location   = var.region
  role       = each.value
  member     = google_service_account.role[each.key].member
}

# Acting as another account

resource "google_service_account_iam_member" "composer_runs_dataflow" {
  for_each           = toset(["batch", "stream"])
  service_account_id = google_service_account.role[each.key].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.role["composer"].member
}

resource "google_service_account_iam_member" "deployer_updates_composer" {
  service_account_id = google_service_account.role["composer"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.role["deployer"].member
}

# Composer

resource "google_project_iam_custom_role" "composer_operator" {
  role_id     = "shopstreamComposerOperator"
  title       = "shopstream: deploys to Composer"
  description = "Sets the environment's variables; makes and deletes no environment."
  permissions = [
    "composer.environments.get",
    "composer.environments.update",
    "composer.operations.get",
  ]

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "deployer_operates_composer" {
  project = var.project
  role    = local.custom_roles["composer_operator"]
  member  = google_service_account.role["deployer"].member
}
