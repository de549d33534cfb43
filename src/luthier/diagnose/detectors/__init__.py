"""The detectors: each looks at one answer and returns a value and the place that shows it; none decides anything."""
