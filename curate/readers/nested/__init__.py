"""Records that stand inside others: those of one JSON object, questions of an article, conversations of a tree."""
