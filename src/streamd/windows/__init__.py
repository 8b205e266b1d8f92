"""Windows: which ones a record belongs to, and the generated loops that keep and give their aggregates. Pure."""
