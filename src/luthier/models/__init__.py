"""Base models: which there are, loading them, adapters, what they will cost, and who answers."""
