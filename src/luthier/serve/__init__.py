"""Doors to a trained model: chat in the terminal, batch prediction, and answers from Python."""
