"""`lancemig doctor`: real races, on stores that keep their promises and on one that does not."""

from pathlib import Path

from lab import Lab
from proxy import Exchange, Proxy, passed_on
from servers import Place

from lancemig.commands.doctor import doctor

CONDITIONS = ("if-none-match", "if-match")


def without_conditions(exchange: Exchange) -> None:
    """Some servers accept the headers and ignore them."""
    exchange.headers = {n: v for n, v in exchange.headers.items() if n.lower() not in CONDITIONS}
    passed_on(exchange)


def test_a_store_that_keeps_its_promises_passes_and_is_left_as_it_was(tmp_path: Path, place: Place) -> None:
    lab = Lab(tmp_path, place)
    lab.revision('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}])')
    lab.upgrade()
    objects = lab.catalog().store.objects
    before = sorted(item.key for item in objects.list(""))
    results = doctor(lab.catalog())
    assert [result for result in results if not result.ok] == []
    assert [result.table for result in results if result.check == "table"] == ["t"]
    assert sorted(item.key for item in objects.list("")) == before


def test_a_server_that_ignores_conditions_is_found_out(tmp_path: Path, s3_place: Place, proxy: Proxy) -> None:
    proxy.always_on("PUT", without_conditions)
    through = Place("moto", s3_place.store, {**s3_place.options, "endpoint": proxy.endpoint})
    failed = {result.check for result in doctor(Lab(tmp_path, through).catalog()) if not result.ok}
    assert {
        "create-only writes: exactly one writer wins",
        "conditional writes: exactly one writer wins",
        "a stale ETag is refused",
    } <= failed
