resource "google_billing_budget" "month" {
  count           = var.billing_account == "" ? 0 : 1
  billing_account = var.billing_account
  display_name    = "shopstream ${var.environment}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = var.monthly_budget
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  # The account's administrators are told in any case.
  dynamic "all_updates_rule" {
    for_each = length(local.channels) > 0 ? ["email"] : []
    content {
      monitoring_notification_channels = local.channels
    }
  }

  depends_on = [google_project_service.api]
}
