"""Augmentation by a teacher: a larger model writes variations, each validated and filtered like those of the rules."""
