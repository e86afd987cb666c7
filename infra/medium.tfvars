# A few million events a day: the published data set's size.
environment = "medium"
region      = "us-central1"

monthly_budget      = 3500
landing_keep_days   = 365
deletion_protection = true

spanner_processing_units = { min = 1000, max = 3000 }

composer_environment_size = "ENVIRONMENT_SIZE_MEDIUM"
composer_high_resilience  = false
composer_workers          = { min = 2, max = 4, cpu = 2, memory_gb = 8 }

batch_machine_type  = "n2-standard-4"
batch_max_workers   = 10
stream_machine_type = "n2-standard-2"
stream_max_workers  = 5

oldest_unacked_alert_seconds = 900
no_rows_alert_minutes        = 30
rejected_share_alert         = 0.05
spanner_cpu_alert            = 0.75
