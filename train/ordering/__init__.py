"""What will be visited, what was decided, and what was really consumed."""
