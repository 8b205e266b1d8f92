"""One file per sink; the file's name is the name in YAML."""
