"""Everything outside the process: objects in a bucket or a directory, Lance tables, and the pointer."""
