"""Types and parameters of indices: names of Lance and LanceDB, and nothing that would have no effect."""

from typing import Any

import pytest
from pydantic import ValidationError

from lancemig.catalog.index_parameters import CREATABLE, PARAMETERS, index_parameters
from lancemig.catalog.operations import CreateIndex
from lancemig.catalog.schema import Index


@pytest.mark.parametrize(
    ("given", "name"),
    [("FTS", "INVERTED"), ("fts", "INVERTED"), ("IvfPq", "IVF_PQ"), ("ivf_hnsw_sq", "IVF_HNSW_SQ"),
     ("BTree", "BTREE"), ("LabelList", "LABEL_LIST"), ("BloomFilter", "BLOOMFILTER")],
)  # fmt: skip
def test_the_types_have_the_names_of_lancedb_as_well(given: str, name: str) -> None:
    assert CreateIndex(table="t", column="c", type=given).type == name
    assert Index(column="c", type=given).type == name


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="BTREE"):
        CreateIndex(table="t", column="c", type="HASH")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        ("IVF_PQ", {"distance_type": "cosine"}, {"metric": "cosine"}),
        ("IVF_FLAT", {"metric_type": "DOT"}, {"metric": "dot"}),
        ("IVF_FLAT", {"metric": "euclidean"}, {"metric": "l2"}),
        ("INVERTED", {"ngram_max_length": 4}, {"max_ngram_length": 4}),
        ("IVF_HNSW_PQ", {"m": 20, "num_bits": 8}, {"m": 20, "num_bits": 8}),
        ("BLOOMFILTER", {"probability": 0.01}, {"probability": 0.01}),
    ],
)
def test_parameters_have_the_names_of_lance(kind: str, given: dict[str, Any], found: dict[str, Any]) -> None:
    assert index_parameters(kind, given) == found
    assert CreateIndex(table="t", column="c", type=kind, params=given).params == found
    assert Index(column="c", type=kind, params=given).params == found


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("IVF_PQ", {"num_partition": 2}, "no parameter 'num_partition'; did you mean 'num_partitions'?"),
        ("IVF_FLAT", {"num_sub_vectors": 2}, "type IVF_FLAT has no parameter 'num_sub_vectors'"),
        ("IVF_PQ", {"max_iterations": 2}, "no parameter 'max_iterations'"),
        ("IVF_FLAT", {"name": "x"}, "no parameter 'name'"),
        ("IVF_FLAT", {"metric": "manhattan"}, "metric 'manhattan' is none of l2, cosine, dot, hamming"),
        ("IVF_FLAT", {"metric": "l2", "distance_type": "dot"}, "'metric', which is given twice"),
        ("IVF_FLAT", {"num_partitions": "four"}, "'num_partitions' of IVF_FLAT is 'four'; it must be int"),
        ("IVF_FLAT", {"num_partitions": 0}, "is 0; it must be at least 1"),
        ("INVERTED", {"stem": "maybe"}, "'stem' of INVERTED is 'maybe'; it must be bool"),
        ("INVERTED", {"max_token_length": True}, "it must be int"),
        ("BTREE", {"wrong": 1}, "no parameter 'wrong'"),
        ("BITMAP", {"zone_size": 1}, "type BITMAP has no parameters; 'zone_size' would have no effect"),
    ],
)
def test_what_would_have_no_effect_is_refused(kind: str, given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        CreateIndex(table="t", column="c", type=kind, params=given)
    assert text in str(raised.value)
    with pytest.raises(ValidationError):
        Index(column="c", type=kind, params=given)


def test_each_type_with_parameters_is_a_type() -> None:
    assert set(PARAMETERS) <= set(CREATABLE)
