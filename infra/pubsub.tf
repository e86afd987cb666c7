locals {
  pubsub_agent      = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  retention_seconds = 7 * 24 * 3600
}

resource "google_pubsub_topic" "events" {
  name = "events"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "events_stream" {
  name  = "events-stream"
  topic = google_pubsub_topic.events.id

  ack_deadline_seconds       = 60
  message_retention_duration = "${local.retention_seconds}s"

  # Else it would be deleted after 31 days of a stopped stream.
  expiration_policy {
    ttl = ""
  }

  # Dataflow acknowledges a message when what it became is written. Until then each death of the job, and each time
  # that Dataflow gives a message back, counts as an attempt, at good messages too: so 100, the most that Pub/Sub
  # allows, and an alert on the first that is set aside. Lines that break the contract do not come here, the stream
  # rejects and acknowledges them. See docs/adr/0007; to publish again: docs/runbooks/stream-unhealthy.md.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letter.id
    max_delivery_attempts = 100
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
}

resource "google_pubsub_topic" "dead_letter" {
  name = "events-dead-letter"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_project_service.api]
}

# A topic without a subscription forgets its messages.
resource "google_pubsub_subscription" "dead_letter" {
  name  = "events-dead-letter-kept"
  topic = google_pubsub_topic.dead_letter.id

  message_retention_duration = "${31 * 24 * 3600}s"

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub itself moves dead letters, as its own account.
resource "google_pubsub_topic_iam_member" "pubsub_publishes_dead_letters" {
  topic  = google_pubsub_topic.dead_letter.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "pubsub_acknowledges_dead_letters" {
  subscription = google_pubsub_subscription.events_stream.id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
