"""The proxy model: a small language model that says how likely a response is."""
