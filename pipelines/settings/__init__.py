"""The options of each command: flags and YAML keys, and nothing that is slow to import."""
