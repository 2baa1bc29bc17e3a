"""What Grafana shows and warns of: one description, put into files and into a running Grafana."""
