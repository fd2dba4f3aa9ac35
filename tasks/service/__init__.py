"""Worker and beat as services: readiness, watchdog, reload and stop."""
