"""Clients as people have them, unmodified, in front of a gateway process."""
