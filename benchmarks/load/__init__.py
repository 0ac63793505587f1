"""Load on an OpenAI-compatible server, and what it did to the answers' times."""
