"""What touches the model."""
