"""The Celery side: tasks that process parcels, apply their outcomes and sweep the inboxes."""
