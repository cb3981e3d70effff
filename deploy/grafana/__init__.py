"""Grafana's dashboard and its provisioning."""
