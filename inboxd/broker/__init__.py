"""Everything that is kept in Redis: leases, heartbeats, outages and counters."""
