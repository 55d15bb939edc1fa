"""Long-lived processes: readiness, watchdog, the process tree."""
