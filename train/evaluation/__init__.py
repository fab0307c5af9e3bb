"""Benchmarks of lm-evaluation-harness on what a run has made: ``tasks`` finds them, ``harness`` asks them."""
