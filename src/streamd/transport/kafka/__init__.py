"""Apache Kafka. aiokafka is used here only."""
