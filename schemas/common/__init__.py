"""What both commands are built from: configuration, errors, logs, files."""
