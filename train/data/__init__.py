"""From rows on disk to sequences of tokens."""
