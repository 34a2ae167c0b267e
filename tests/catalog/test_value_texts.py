"""Roots and revisions as people read them."""

import pytest

from lancemig.catalog.value import format_revision, format_root


@pytest.mark.parametrize(("prefix", "text"), [("", "./"), ("v1/", "v1/"), ("ursa/v0.2.0/", "ursa/v0.2.0/")])
def test_a_root(prefix: str, text: str) -> None:
    assert format_root(prefix) == text


@pytest.mark.parametrize(
    ("revision", "head", "text"),
    [
        (None, None, "base"),
        (None, "0007", "base"),
        ("0006", "0007", "0006"),
        ("0007", "0007", "0007 (head)"),
        ("0007", None, "0007"),
    ],
)
def test_a_revision(revision: str | None, head: str | None, text: str) -> None:
    assert format_revision(revision, head) == text
