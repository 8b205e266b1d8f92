"""Schema registries with the API of Confluent's."""
