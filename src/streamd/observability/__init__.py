"""Metrics, logs, health: saying what happens. Decides nothing."""
