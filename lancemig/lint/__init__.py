"""Lint: what a reviewer should know about a migration file, found without running it; pure.

`engine` runs every rule over a `subject`. Rules look at operations (`operations`), SQL (`sql`), Python
functions (`purity`, with `scopes` for names and `calls` for what a call does) and column names
(`personal_data`). `codes` lists the finding codes. A rule that is in doubt reports nothing: people switch off
a linter that is wrong.
"""
