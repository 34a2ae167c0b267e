"""Lint: findings about a migration file that a reviewer should see, without running the file or a store.

- `engine` runs all rules over a file and applies its ignore comments; start here.
- `subject` is the input of a rule: the migration, its syntax tree, the schema before each operation.
- `operations` has the rules over operations, and `sql` what these rules ask about SQL expressions.
- `purity` has the rules over row functions; `scopes` resolves names, `calls` judges single expressions.
- `personal_data` has the rule over column names.

A rule that is in doubt reports nothing: people switch off a linter that is wrong.
"""
