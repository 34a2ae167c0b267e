"""Comparing declared models with a catalog, and the operations that make the catalog match the models.

`diff` is the entry (`diff_models`); `columns` compares the columns of one table; `renames` reads `--rename`.
"""
