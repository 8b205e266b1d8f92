"""Exchanges: topics through which a pipeline moves its own records by key, from the tasks of one part to another's.

The plan puts an exchange behind a stage `key_by`; nobody writes one in YAML. Its two ends are a sink and a source like
others, over a topic of Kafka or of the embedded log.
"""
