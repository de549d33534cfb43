"""Data machinery: ingest, clean, overlap, split, augment, statistics. It knows no run folder."""
