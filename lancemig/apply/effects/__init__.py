"""The effects of operations: staged transactions, whole tables, the replay of later rows, undo, samples."""
