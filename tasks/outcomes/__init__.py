"""Applies a parcel's outcome: moves its files to done/ or failed/, or publishes them for another attempt."""
