"""File counts by folder, and the metrics of a host."""
