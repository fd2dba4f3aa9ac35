"""The sweeps that beat schedules: for missed files, stale parcels and expired files."""
