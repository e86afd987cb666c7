# The images of the Flex Templates.
resource "google_artifact_registry_repository" "shopstream" {
  repository_id = "shopstream"
  location      = var.region
  format        = "DOCKER"

  docker_config {
    immutable_tags = true
  }

  # A rollback needs the images of earlier versions; the running stream needs its own.
  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api]
}
