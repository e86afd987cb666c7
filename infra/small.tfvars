# One shop's first steps: tens of thousands of events a day, one person to look after it.
environment = "small"
region      = "us-central1"

monthly_budget      = 700
landing_keep_days   = 90
deletion_protection = false

spanner_processing_units = { min = 100, max = 100 }

composer_environment_size = "ENVIRONMENT_SIZE_SMALL"
composer_high_resilience  = false
composer_workers          = { min = 1, max = 2, cpu = 1, memory_gb = 4 }

batch_machine_type  = "n2-standard-2"
batch_max_workers   = 4
stream_machine_type = "n2-standard-2"
stream_max_workers  = 2

oldest_unacked_alert_seconds = 1800
no_rows_alert_minutes        = 60
rejected_share_alert         = 0.1
spanner_cpu_alert            = 0.8
