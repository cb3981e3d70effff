"""Which models are served: versions, their activation and rollback, items added while serving."""
