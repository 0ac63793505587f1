"""Measurements on a GPU: one script a question, each step surviving the failure of another."""
