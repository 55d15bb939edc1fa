"""A parser that does not come up, and says why."""

raise SystemExit("something is missing")
