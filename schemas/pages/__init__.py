"""What the pages of both commands are built from: one style sheet, pictures, and text that cannot do harm."""
