"""The settings: their keys and limits, and reading them."""
