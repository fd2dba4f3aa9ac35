"""Worker and beat as services: ready, alive, reloading, stopping."""
