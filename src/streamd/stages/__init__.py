"""One file per stage; the file's name is the name in YAML."""
