"""The recipe: what the user wants, validated once, at the door."""
