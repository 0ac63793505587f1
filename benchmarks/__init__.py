"""Measures what the other packages make: answers against each other, and how fast they come."""
