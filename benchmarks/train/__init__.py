"""`groundtune bench train`: the default trainer, a plain Trainer with PEFT, and XTuner on the same rows."""
