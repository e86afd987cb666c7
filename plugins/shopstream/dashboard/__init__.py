"""The dashboard: pages about what customers do and whether the pipelines are well."""
