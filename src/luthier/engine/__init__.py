"""Training machinery that knows no kind: schedules, batches, trainer, guards, checkpoints."""
