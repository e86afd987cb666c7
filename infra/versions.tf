terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }

  # The bucket is made by hand, once (docs/getting-started.md), and named by
  # `terraform init -backend-config=bucket=...`.
  backend "gcs" {
    prefix = "shopstream"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # Budgets are asked of the billing API, which bills its calls to a project.
  user_project_override = true
  billing_project       = var.project

  default_labels = local.labels
}

locals {
  # As the code labels what it makes.
  labels = { app = "shopstream" }
}
