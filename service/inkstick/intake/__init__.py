"""A file arrives: watch, settle, identify, claim into the spool."""
