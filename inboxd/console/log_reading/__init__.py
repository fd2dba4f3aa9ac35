"""Read the log: its sources, parsing and rendering."""
