# What differs between small, medium and production is in small.tfvars, medium.tfvars and production.tfvars.
# What is nobody else's business is given as TF_VAR_<name>: project, alert_emails, alert_channels,
# billing_account, github_repository, currency, dashboard_image, dashboard_readers.

variable "project" {
  type        = string
  description = "The id of the Google Cloud project, one for each environment."

  validation {
    condition     = can(regex("^[a-z][-a-z0-9]{4,28}[a-z0-9]$", var.project))
    error_message = "Give a project id: 6 to 30 lower case letters, digits and dashes."
  }
}

variable "environment" {
  type        = string
  description = "small, medium or production; also the name of the GitHub environment that may deploy here."

  validation {
    condition     = contains(["small", "medium", "production"], var.environment)
    error_message = "Give small, medium or production."
  }
}

variable "region" {
  type        = string
  description = "Where everything is, such as us-central1. Data does not leave it."
}

variable "alert_emails" {
  type        = set(string)
  description = "Who is told of alerts; without anybody, alerts only show in Cloud Monitoring."
  default     = []
}

variable "alert_channels" {
  type        = set(string)
  description = "Who else is told: ids of notification channels of any type (Slack, PagerDuty, SMS, Pub/Sub) made elsewhere."
  default     = []

  validation {
    condition     = alltrue([for id in var.alert_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", id))])
    error_message = "Give ids as `gcloud beta monitoring channels list --format='value(name)'` prints them."
  }
}

variable "billing_account" {
  type        = string
  description = "The billing account's id, for the budget alert; without it there is none."
  default     = ""
}

variable "github_repository" {
  type        = string
  description = "owner/name of the repository whose workflows may deploy, without a key; without it none may."
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[^/]+/[^/]+$", var.github_repository))
    error_message = "Give owner/name."
  }
}

variable "currency" {
  type        = string
  description = "In which the shop's prices are, such as USD; pages and report write it beside money. Without it none."
  default     = ""

  validation {
    condition     = can(regex("^([A-Z]{3})?$", var.currency))
    error_message = "Give the three letters of ISO 4217, such as USD."
  }
}

variable "dashboard_image" {
  type        = string
  description = "The image of the dashboard in Cloud Run; without it the dashboard is in Airflow alone."
  default     = ""
}

variable "dashboard_readers" {
  type        = set(string)
  description = "Whom Identity-Aware Proxy lets in to the dashboard, such as group:analysts@example.com."
  default     = []

  validation {
    condition     = alltrue([for one in var.dashboard_readers : can(regex("^(user|group|domain|serviceAccount):.+$", one))])
    error_message = "Give members such as group:analysts@example.com; not everybody."
  }
}

variable "monthly_budget" {
  type        = number
  description = "In the currency of the billing account; alerts at 50, 90 and 100 %."
}

variable "landing_keep_days" {
  type        = number
  description = "How long landed files are kept. A day can be loaded again for as long."
}

variable "bytes_limit_times" {
  type        = number
  description = "How many times what it is known to read a statement may bill."
  default     = 3

  validation {
    condition     = var.bytes_limit_times >= 1 && var.bytes_limit_times <= 1000
    error_message = "Give a number from 1 to 1,000."
  }
}

variable "events_keep_days" {
  type        = number
  description = "How long Spanner and events_stream keep events; 0 is for ever. events_batch keeps all."
  default     = 0

  validation {
    condition     = var.events_keep_days == 0 || var.events_keep_days >= 60
    error_message = "Give 0, for ever, or at least 60."
  }
}

variable "pseudonym_key_versions" {
  type        = list(number)
  description = "Versions of the secret shopstream-pseudonym-key, the newest first: by the first, customers' ids are hashed before they are written. None: they are written as they are."
  default     = []
}

variable "deletion_protection" {
  type        = bool
  description = "Whether the Spanner database, the buckets and the datasets refuse to be deleted with what they hold."
}

variable "spanner_processing_units" {
  type        = object({ min = number, max = number })
  description = "1000 units are a node. Autoscaling needs at least 1000; with min = max there is none."

  validation {
    condition = (
      var.spanner_processing_units.min == var.spanner_processing_units.max ||
      (var.spanner_processing_units.min >= 1000 && var.spanner_processing_units.max > var.spanner_processing_units.min)
    )
    error_message = "Give min = max, or min of at least 1000 and max above it."
  }
}

variable "composer_environment_size" {
  type        = string
  description = "The size of Composer's own database and queue."

  validation {
    condition = contains(
      ["ENVIRONMENT_SIZE_SMALL", "ENVIRONMENT_SIZE_MEDIUM", "ENVIRONMENT_SIZE_LARGE"], var.composer_environment_size
    )
    error_message = "Give ENVIRONMENT_SIZE_SMALL, ENVIRONMENT_SIZE_MEDIUM or ENVIRONMENT_SIZE_LARGE."
  }
}

variable "composer_high_resilience" {
  type        = bool
  description = "Whether Composer runs in two zones and takes a snapshot each night."
}

variable "composer_workers" {
  type        = object({ min = number, max = number, cpu = number, memory_gb = number })
  description = "Airflow workers. A task imports Google's clients, so a worker needs about 2 GB for each CPU."
}

variable "batch_machine_type" {
  type        = string
  description = "Of the Dataflow workers that load a day. `make deploy` writes it into the template."
}

variable "batch_max_workers" {
  type        = number
  description = "The most Dataflow workers that load one day."
}

variable "stream_machine_type" {
  type        = string
  description = "Of the Dataflow workers of the stream."
}

variable "stream_max_workers" {
  type        = number
  description = "The most Dataflow workers of the stream."
}

variable "oldest_unacked_alert_seconds" {
  type        = number
  description = "Alert when a message has waited for so long."
}

variable "no_rows_alert_minutes" {
  type        = number
  description = "Alert when messages are published but the stream has accepted none for so long; at least 10."

  validation {
    condition     = var.no_rows_alert_minutes >= 10
    error_message = "Give at least 10: Dataflow's counters come minutes late."
  }
}

variable "rejected_share_alert" {
  type        = number
  description = "Alert when more than this share of the stream's messages of an hour was rejected."
}

variable "spanner_cpu_alert" {
  type        = number
  description = "Alert above this share of Spanner's high-priority CPU; Google recommends to stay below 0.65."
}
