"""The contract between the two halves: what a difficulty table holds and how to prove that it is whole."""
