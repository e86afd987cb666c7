# Their tables are the business of sql/bigquery, which the DAG apply_schemas applies. No expiration of
# partitions: those of an old month that is loaded today would expire at once.
resource "google_bigquery_dataset" "dataset" {
  for_each = {
    shop_raw = "Events as they came, by batch and by stream, and rejected lines."
    shop     = "Each event once, and the summaries: what analysts read."
    shop_ops = "What the pipelines did: loads, checks of the stream."
  }
  dataset_id  = each.key
  description = each.value
  location    = var.region

  delete_contents_on_destroy = !var.deletion_protection

  depends_on = [google_project_service.api]
}
