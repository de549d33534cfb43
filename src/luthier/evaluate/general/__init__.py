"""General text that no recipe is about, to see what a model has forgotten: passages.txt, written for this."""
