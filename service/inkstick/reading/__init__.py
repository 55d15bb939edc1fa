"""Which page next, on which engine, and is the answer good."""
