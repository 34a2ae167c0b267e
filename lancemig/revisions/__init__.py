"""Migration files in versions/: reading, checking, running, writing and rearranging them.

- `header` reads the header of a file without running it; `chain` orders headers from base to head.
- `loader` runs a file and returns the `Migration` that it declares, and loads an application's models.
- `writer` writes new files; `render` writes operations and Arrow types as Python.
- `sumfile` keeps lancemig.sum; `journal` changes several files atomically.
- `branches` and `rebase` move one branch of a forked history onto another; `squash` merges revisions.

`header`, `chain`, `sumfile` and `journal` load neither Arrow nor Lance, so that commands that only read files
start fast.
"""
