"""The lean trainer: reads the difficulty table and trains on it in the order of a curriculum."""
