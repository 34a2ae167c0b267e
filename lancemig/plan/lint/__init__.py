"""What a reviewer should know of a migration file, told from the files alone; pure.

`subject` is what rules look at, `rules` runs them all. Each rule is a function from a subject to what it
found: over operations (`destructive`, `shapes`, `updates`), over row functions (`purity`), over column names
(`personal`), over the file as a whole (`whole`). `ignores` are the comments that silence them.
"""
