"""The contracts of source, stage, sink and transaction, and the registry that finds them. Pure."""
