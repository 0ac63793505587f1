"""What changed between two states of a knowledge base, and what has to be done about it."""
