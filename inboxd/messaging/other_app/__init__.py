"""Files for a task of somebody else's Celery app on the same Redis: its message, the answer, and the app's workers."""
