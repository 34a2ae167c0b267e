"""What a reviewer should know of a migration file, told from the files alone; pure.

`subject` is what rules look at, `rules` runs them all. Each rule is a function from a subject to what it
found: over operations (`destructive`, `shapes`, `updates`), over row functions (`purity`), over column names
(`personal`), over the file as a whole (`whole`). `ignores` are the comments that silence them.

What rules ask: of SQL, `sql`, `conditions` and `idempotence`; of types, `narrowing`; of names, `sensitive`;
of Python, `functions` (what row functions use), `scopes` (what a name stands for), and `chance`, `outside`
and `state` (what a call does). In doubt, they say no: a linter that is wrong is switched off.
"""
