"""State kept in Redis: leases, heartbeats, outages and counters."""
