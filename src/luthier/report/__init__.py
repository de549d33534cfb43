"""From the files of a run to pages that people read."""
