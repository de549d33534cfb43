"""The run folder: every path, atomic files, the lock, events and progress."""
