"""HTTP: what the service's answers and refusals look like on the wire."""
