"""The settings model, the loader that merges its sources, and the import of handlers."""
