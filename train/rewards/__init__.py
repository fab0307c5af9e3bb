"""The scoring model of CAMPUS: a reward that ranks the reference above the model's own answer."""
