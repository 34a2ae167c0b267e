"""Values: schemas, operations, pointer and lineage. Nothing here reads or writes anything."""
