"""Large files for workers on other hosts, by way of a store that both can reach: what lies there, and how it is read."""
