# What the customers whom forget_customer has forgotten are hashed with in shop_ops.forgotten_customers. Its version is
# made by hand, so that no state of Terraform holds it: docs/runbooks/forget-customer.md.
resource "google_secret_manager_secret" "forget_key" {
  secret_id = "shopstream-forget-key"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.api]
}
