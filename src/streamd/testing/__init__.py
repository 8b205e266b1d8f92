"""`streamd test`: a pipeline as it is, between sources and sinks in memory, under a clock that stands still."""
