"""One inbox's four folders: their layout, and each move of a file between them."""
