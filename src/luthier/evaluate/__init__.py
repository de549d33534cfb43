"""Evidence: answers of base and tuned, their scores, and the comparison between them."""
