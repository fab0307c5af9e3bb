"""What is computed: functions from a batch of examples to columns. Knows nothing of Beam."""
