"""The types of indices and their parameters, by the names that Lance reads.

Lance ignores a parameter whose name it does not know (tests/surface/test_lance_indices.py): an index with
`distance_type="cosine"` is built with the metric `l2`. So names are checked here. The words that LanceDB
uses for the same things are accepted and replaced by Lance's.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args

IndexType = Literal[
    "BTREE", "BITMAP", "LABEL_LIST", "INVERTED", "NGRAM", "ZONEMAP", "BLOOMFILTER",
    "IVF_FLAT", "IVF_PQ", "IVF_SQ", "IVF_HNSW_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ",
]  # fmt: skip
CREATABLE: tuple[str, ...] = get_args(IndexType)

_SPELLINGS = {name.replace("_", ""): name for name in CREATABLE} | {"FTS": "INVERTED"}
"""Lance's name of each type, by its name in capitals without underscores."""

METRICS = ("l2", "cosine", "dot", "hamming")

_IVF: dict[str, type] = {
    "metric": str,
    "num_partitions": int,
    "target_partition_size": int,
    "sample_rate": int,
    "shuffle_partition_batches": int,
    "shuffle_partition_concurrency": int,
    "index_file_version": str,
    "filter_nan": bool,
    "skip_transpose": bool,
}
_PQ: dict[str, type] = {"num_sub_vectors": int, "num_bits": int}
_HNSW: dict[str, type] = {"m": int, "ef_construction": int, "max_level": int}
INVERTED_PARAMETERS: dict[str, type] = {
    "base_tokenizer": str,
    "language": str,
    "with_position": bool,
    "max_token_length": int,
    "lower_case": bool,
    "stem": bool,
    "remove_stop_words": bool,
    "custom_stop_words": list,
    "ascii_folding": bool,
    "min_ngram_length": int,
    "max_ngram_length": int,
    "prefix_only": bool,
}
PARAMETERS: Mapping[str, Mapping[str, type]] = {
    "BTREE": {"zone_size": int},
    "ZONEMAP": {"rows_per_zone": int},
    "BLOOMFILTER": {"number_of_items": int, "probability": float},
    "INVERTED": {**INVERTED_PARAMETERS, "block_size": int, "memory_limit": int, "num_workers": int},
    "IVF_FLAT": _IVF,
    "IVF_PQ": _IVF | _PQ,
    "IVF_SQ": _IVF,
    "IVF_HNSW_FLAT": _IVF | _HNSW,
    "IVF_HNSW_SQ": _IVF | _HNSW,
    "IVF_HNSW_PQ": _IVF | _PQ | _HNSW,
}
"""The parameters of each type, with the types of their values; a type that is absent has none."""

_ALIASES = {
    "distance_type": "metric",
    "metric_type": "metric",
    "distance": "metric",
    "ngram_min_length": "min_ngram_length",
    "ngram_max_length": "max_ngram_length",
    "tokenizer_name": "base_tokenizer",
}
"""The names of LanceDB, and of Lance's statistics, for parameters of Lance."""


def index_type(name: str) -> str:
    """Lance's name of an index type: `INVERTED` for `FTS`, `IVF_PQ` for `IvfPq`; unknown names stay."""
    return _SPELLINGS.get(name.replace("_", "").upper(), name)


def index_parameters(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of an index under Lance's names.

    Args:
        kind: Lance's name of the type.
        given: The parameters, under names of Lance or LanceDB.

    Raises:
        ValueError: the type has no such parameter, or the parameter no such value.
    """
    known, found = PARAMETERS.get(kind, {}), dict[str, Any]()
    for given_name, value in given.items():
        name = given_name if given_name in known else _ALIASES.get(given_name, given_name)
        if name not in known:
            raise ValueError(_unknown(kind, given_name, known))
        if name in found:
            raise ValueError(f"{given_name!r} is the parameter {name!r}, which is given twice")
        found[name] = _checked(kind, name, value, known[name])
    return found


def with_lances_names(fields: Any) -> Any:
    """The fields of an index or of CreateIndex, with `type` and `params` by Lance's names."""
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        return fields
    kind, given = index_type(fields["type"]), fields.get("params", {})
    if kind in CREATABLE and isinstance(given, Mapping):
        return {**fields, "type": kind, "params": index_parameters(kind, given)}
    return {**fields, "type": kind}


def _unknown(kind: str, name: str, known: Mapping[str, type]) -> str:
    if not known:
        return f"an index of type {kind} has no parameters; {name!r} would have no effect"
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"an index of type {kind} has no parameter {name!r}{hint} (its parameters: {', '.join(known)})"


def _checked(kind: str, name: str, value: Any, of: type) -> Any:
    if name == "metric":
        metric = {"euclidean": "l2"}.get(str(value).lower(), str(value).lower())
        if metric not in METRICS:
            raise ValueError(f"metric {value!r} is none of {', '.join(METRICS)}")
        return metric
    if not isinstance(value, of) or (of is int and isinstance(value, bool)):
        raise ValueError(f"the parameter {name!r} of {kind} is {value!r}; it must be {of.__name__}")
    if isinstance(value, int) and of is int and value < 1:
        raise ValueError(f"the parameter {name!r} of {kind} is {value}; it must be at least 1")
    return value
