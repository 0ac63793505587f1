"""Processes that generate text and speak OpenAI's HTTP protocol, and how they are started and stopped."""
