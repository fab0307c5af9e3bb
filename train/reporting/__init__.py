"""What a run has left: whether it is whole, and a page that shows what was learned, in which order, at what cost."""
