"""CAMPUS (arXiv 2509.13790): ``curriculum`` has the options and the steps; what they are made of stands beside it."""
