output "airflow_url" {
  description = "Airflow's web page."
  value       = google_composer_environment.shopstream.config[0].airflow_uri
}

output "data_bucket" {
  description = "Where exports are uploaded, under exports/."
  value       = google_storage_bucket.data.name
}

output "dataflow" {
  description = "What `make deploy` writes into the templates."
  value = {
    subnetwork = "regions/${var.region}/subnetworks/${google_compute_subnetwork.dataflow.name}"
    batch      = { machine_type = var.batch_machine_type, max_workers = var.batch_max_workers }
    stream     = { machine_type = var.stream_machine_type, max_workers = var.stream_max_workers }
  }
}

output "dashboard_url" {
  description = "The dashboard on its own; null if there is none."
  value       = one([for service in google_cloud_run_service.dashboard : one(service.status[*].url)])
}

output "deployer" {
  description = "For the GitHub environment: who deploys, and through which provider it signs in."
  value = {
    service_account            = google_service_account.role["deployer"].email
    workload_identity_provider = one(google_iam_workload_identity_pool_provider.github[*].name)
  }
}
