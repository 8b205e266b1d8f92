"""Speaking to other systems; knows nothing of pipelines."""
