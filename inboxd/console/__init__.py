"""The command line. It starts the other programs as processes and imports none of them."""
