"""The stages of a run: one short function each, from files to files."""
