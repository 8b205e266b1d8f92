"""HTTP: metrics, health, live figures."""
