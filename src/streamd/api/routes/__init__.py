"""One file for each area of the HTTP API; each has a ROUTES table."""
