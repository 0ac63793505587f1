"""What a knowledge base looks like in numbers and pictures."""
