"""What a run writes of itself beside its checkpoints."""
