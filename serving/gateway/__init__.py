"""The OpenAI-compatible API in front of the engines and the knowledge base."""
