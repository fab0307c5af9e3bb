"""A scoring job: its inputs, its plan, its progress, its shards."""
