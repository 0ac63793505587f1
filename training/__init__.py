"""From rows to an adapter to a merged model."""
