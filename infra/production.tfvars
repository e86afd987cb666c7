# Tens of millions of events a day, and somebody on call.
environment = "production"
region      = "us-central1"

monthly_budget      = 15000
landing_keep_days   = 730
deletion_protection = true

spanner_processing_units = { min = 2000, max = 10000 }

composer_environment_size = "ENVIRONMENT_SIZE_LARGE"
composer_high_resilience  = true
composer_workers          = { min = 3, max = 8, cpu = 2, memory_gb = 8 }

batch_machine_type  = "n2-standard-4"
batch_max_workers   = 40
stream_machine_type = "n2-standard-4"
stream_max_workers  = 20

oldest_unacked_alert_seconds = 600
no_rows_alert_minutes        = 15
rejected_share_alert         = 0.02
spanner_cpu_alert            = 0.65
