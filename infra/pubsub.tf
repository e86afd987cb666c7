locals {
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

  # No dead letter topic and no retry policy: Dataflow, which reads this subscription, supports neither. Lines that break
  # the contract go to shop.rejected_events with their bytes. See docs/adr/0007.
}
