"""A document becomes page pixels, in a sandbox: open, render, orient, blank, text layer."""
