# GitHub's workflows sign in as the deployer with the token that GitHub gives each job: there is no key.

resource "google_iam_workload_identity_pool" "github" {
  count                     = var.github_repository == "" ? 0 : 1
  workload_identity_pool_id = "shopstream-github"
  display_name              = "GitHub's workflows"

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count                              = length(google_iam_workload_identity_pool.github)
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  attribute_condition = "assertion.repository == '${var.github_repository}'"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

# Only a job of the GitHub environment with this name, to which GitHub lets nobody but its reviewers admit.
resource "google_service_account_iam_member" "github_deploys" {
  count              = length(google_iam_workload_identity_pool.github)
  service_account_id = google_service_account.role["deployer"].name
  role               = "roles/iam.workloadIdentityUser"
  member = join("", [
    "principal://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}",
    "/subject/repo:${var.github_repository}:environment:${var.environment}",
  ])
}
