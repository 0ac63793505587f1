"""What a gateway costs: GroundTune's and LiteLLM's in front of an upstream that answers at once."""
