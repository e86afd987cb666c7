# Dataflow's workers have no public addresses: they reach Google's services from this subnetwork.
resource "google_compute_network" "shopstream" {
  name                    = "shopstream"
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "dataflow" {
  name                     = "shopstream-dataflow"
  network                  = google_compute_network.shopstream.id
  region                   = var.region
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true
}

resource "google_compute_firewall" "dataflow" {
  name        = "shopstream-dataflow"
  description = "Workers of one job talk to each other on these ports; Dataflow gives each the tag."
  network     = google_compute_network.shopstream.id
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
