"""Output directories that hold a table: reading, making, extending, selecting, signing."""
