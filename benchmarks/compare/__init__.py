"""Fine-tune, retrieve, or both: the same questions to several arms, and what the answers' differences are worth."""
