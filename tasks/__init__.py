"""The Celery side: works on parcels, files them, sweeps."""
