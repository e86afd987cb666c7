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

# What user_id and user_session are hashed with before they are written, if var.pseudonym_key_versions names any of its
# versions, which are made by hand: docs/runbooks/pseudonyms.md.
resource "google_secret_manager_secret" "pseudonym_key" {
  secret_id = "shopstream-pseudonym-key"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.api]
}
