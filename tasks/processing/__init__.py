"""The task that processes a parcel: its lease and its handler calls."""
