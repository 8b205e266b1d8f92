"""streamd: stream processing as a daemon. YAML in, exactly once out, on Kafka or without any server."""

__version__ = "0.1.0"
