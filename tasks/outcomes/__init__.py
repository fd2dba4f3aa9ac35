"""Carrying out what became of a parcel: done/, failed/, or another attempt."""
