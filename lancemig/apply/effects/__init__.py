"""What an operation does to a table, and to rows that come later: staged transactions, and their reversal."""
