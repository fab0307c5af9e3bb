"""A plan of steps: what its file says, what each step is made of, and what was recorded of it."""
