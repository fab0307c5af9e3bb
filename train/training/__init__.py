"""One training run: what it rests on, its loop, and what it says of itself."""
