"""Signals, child processes and what they print."""
