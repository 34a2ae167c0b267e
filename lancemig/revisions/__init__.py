"""Files in versions/ become a straight line of revisions, and migrations to plan with.

`header` and `line` read files without running them, and load nothing that reads tables; `loader` runs
them; `writer` writes new ones.
"""
