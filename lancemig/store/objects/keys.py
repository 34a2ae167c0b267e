"""Keys and folders inside a store: none of them leaves it."""

from lancemig.errors import ConfigError

# At the top of a local store: the lock file. The name is reserved everywhere, so that a catalog
# may move between a bucket and a disk.
RESERVED = ".lancemig"


def checked(key: str) -> str:
    """Return `key` if it names an object in the store; refuses every other."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts) or parts[0] == RESERVED:
        raise ConfigError(
            f"{key!r} is not a valid key inside the store",
            next_step="fix the prefix, pointer or catalog_dir in lancemig.ini: use a relative path without "
            "'..', '.' or empty parts",
        )
    return key


def folder_of(prefix: str) -> str:
    """Return the folder that `prefix` names: `""` for the whole store, else ending in a slash."""
    return f"{checked(prefix.removesuffix('/'))}/" if prefix else ""
