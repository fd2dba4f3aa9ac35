"""One inbox's four folders: what lies where, and each move between them."""
