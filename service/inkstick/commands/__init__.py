"""What each command does; `inkstick.cli` only parses and delegates."""
