"""What is known: durable files, the ledger, search."""
