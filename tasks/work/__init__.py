"""The task that works on a parcel: its lease, its handler calls."""
