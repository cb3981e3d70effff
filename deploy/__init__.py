"""What runs the project: containers, Prometheus, Grafana, Kubernetes, load test, and scripts for them."""
