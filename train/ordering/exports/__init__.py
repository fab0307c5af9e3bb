"""An order written out for the trainers of others: rows, the settings that keep their order, and how to check it."""
