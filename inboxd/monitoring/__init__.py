"""What is counted and shown of a host: files by folder, and the metrics."""
