"""What is known: documents on disk (`spool`), and the index of them that can always be rebuilt (`ledger`)."""
