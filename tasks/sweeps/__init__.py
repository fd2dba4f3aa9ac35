"""Beat's sweeps: missed files, stale parcels, expired files."""
