"""Whether the model that is served is the model that was trained."""
