"""Reading the log back: records, where they come from, and how a line is shown."""
