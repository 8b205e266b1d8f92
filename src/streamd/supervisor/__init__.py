"""The control plane, one per node: membership, assignment, reconcile, children. Never touches a record."""
