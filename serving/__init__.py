"""Engines, the OpenAI-compatible gateway, chat, and the root command line."""
