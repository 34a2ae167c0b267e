"""Catalogs that exist get a project: `init --from-live` and `baseline`; what was found passes `check`."""

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import lance
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from lab import Lab
from servers import Place

from lancemig.cli import main

OLDER = Path(__file__).parent.parent / "fixtures" / "older"


def lancemig(folder: Path, *arguments: str) -> Result:
    with chdir(folder):
        return CliRunner().invoke(main, arguments, prog_name="lancemig")


def says(folder: Path, *arguments: str) -> str:
    done = lancemig(folder, *arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refuses(folder: Path, *arguments: str) -> str:
    done = lancemig(folder, *arguments)
    assert done.exit_code == 2, done.output
    assert "next: " in done.stderr
    return done.stderr


def plain(folder: Any, **options: Any) -> None:
    """What a program makes that knows LanceDB alone."""
    database = lancedb.connect(str(folder), **options)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(np.random.default_rng(1).random(300 * 8, np.float32)), 8
    )
    rows = pa.table({
        "id": pa.array(range(300)), "text": [f"note {n}" for n in range(300)], "vector": vectors,
    }, schema=pa.schema([
        pa.field("id", pa.int64(), nullable=False, metadata={"unit": "none"}),
        ("text", pa.string()), ("vector", pa.list_(pa.float32(), 8)),
    ], metadata={"site": "50 % north, $HOME"}))  # fmt: skip
    notes = database.create_table("notes", rows)
    notes.create_index(vector_column_name="vector", num_partitions=2, num_sub_vectors=4, metric="cosine")
    notes.create_fts_index("text", use_tantivy=False)
    notes.create_scalar_index("id", index_type="BITMAP")
    database.create_table("empty", schema=pa.schema([("at", pa.timestamp("ns", "UTC"))]))


def test_a_directory_of_lancedb_is_adopted(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    said = says(tmp_path, "init", "--from-live", "--store", "db")
    assert "stamped  0001 (head)  ./" in said
    assert "2 tables have no key: empty, notes" in said
    assert "store = %(here)s/db\n" in (tmp_path / "lancemig.ini").read_text()
    assert "\ncatalog_dir =\n" in (tmp_path / "lancemig.ini").read_text()
    assert says(tmp_path, "check") == "in sync\n"
    assert json.loads((tmp_path / "db" / "ACTIVE.json").read_text())["revision"] == "0001"
    assert sorted(lancedb.connect(tmp_path / "db").table_names()) == ["empty", "notes"]


def test_what_was_written_makes_the_same_tables_elsewhere(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    says(tmp_path, "init", "--from-live", "--store", "db")
    new = ("-x", "store=elsewhere", "-x", "fallback_prefix=v1/")
    says(tmp_path, *new, "upgrade", "--create")
    assert says(tmp_path, *new, "check") == "in sync\n"


KINDS = {
    "text": ("BTREE", "BITMAP", "INVERTED", "NGRAM", "ZONEMAP", "BLOOMFILTER"),
    "tags": ("LABEL_LIST",),
    "place.room": ("BITMAP",),
    "vector": ("IVF_FLAT", "IVF_PQ", "IVF_HNSW_SQ"),
}


@pytest.mark.slow
def test_every_index_is_made_in_a_new_catalog(tmp_path: Path) -> None:
    rows = pa.table({
        "text": [f"t{n}" for n in range(300)], "tags": [["a"]] * 300, "place": [{"room": "r"}] * 300,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0] * 2400, pa.float32()), 8),
    })  # fmt: skip
    for column, kinds in KINDS.items():
        for kind in kinds:
            dataset = lance.write_dataset(rows, tmp_path / "db" / f"{column}_{kind}.lance")
            params = {"num_sub_vectors": 2} if kind == "IVF_PQ" else {}
            if column == "vector":
                dataset.create_index(column, kind, num_partitions=4, **params)
            elif column == "place.room":
                made = dataset.create_index_uncommitted(
                    column,
                    kind,
                    name="room_idx",
                    fragment_ids=[f.fragment_id for f in dataset.get_fragments()],
                )
                operation = lance.LanceOperation.CreateIndex([made], [])
                lance.LanceDataset.commit(dataset.uri, lance.Transaction(dataset.version, operation))
            else:
                dataset.create_scalar_index(column, kind)
    says(tmp_path, "init", "--from-live", "--store", "db")
    new = ("-x", "store=elsewhere")
    says(tmp_path, *new, "upgrade", "--create")
    assert says(tmp_path, *new, "check") == "in sync\n"
    for table, condition in (("place.room_BITMAP", "place.room = 'r'"), ("text_BITMAP", "text = 't7'")):
        found = lance.write_dataset(rows, tmp_path / "elsewhere" / f"{table}.lance", mode="append")
        assert found.count_rows(condition) == (300 if table.startswith("place") else 1)


def test_a_table_that_only_lance_can_name_is_left_out_and_told(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"a": [1]}), tmp_path / "db" / "fine.lance")
    lance.write_dataset(pa.table({"a": [1]}), tmp_path / "db" / "Größe 1.lance")
    assert "left out: table 'Größe 1'" in says(tmp_path, "init", "--from-live", "--store", "db")
    assert says(tmp_path, "check") == "in sync\n"
    assert sorted(path.name for path in (tmp_path / "db").glob("*.lance")) == ["Größe 1.lance", "fine.lance"]
    (tmp_path / "versions" / "0002.py").write_text(
        'from lancemig import RenameColumn\nrevision = "0002"\ndown_revision = "0001"\n'
        'operations = [RenameColumn(table="fine", column="a", to="b")]\n'
    )
    says(tmp_path, "rehash")
    says(tmp_path, "upgrade")
    assert len(list(tmp_path.glob("db/lancemig-staging-*/Größe 1.lance/data/*"))) == 1, "it is carried over"
    assert says(tmp_path, "check") == "in sync\n"
    (staged,) = tmp_path.glob("db/lancemig-staging-*")
    lance.write_dataset(pa.table({"a": [1]}), staged / "Größe 2.lance")
    said = says(tmp_path, "check")
    assert "LM324  info: Größe 2: LanceDB does not allow this table name" in said


def test_what_another_project_has_adopted_is_adopted_by_this_one(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    says(tmp_path / "db", "init", "../one", "--from-live", "--store", ".")
    says(tmp_path / "db", "init", "../two", "--from-live", "--store", ".")
    assert says(tmp_path / "two", "check") == "in sync\n"


def test_a_table_is_no_catalog(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    said = refuses(tmp_path, "init", "--from-live", "--store", "db/notes.lance")
    assert (
        f"is a table, not a folder of tables\nnext: lancemig init --from-live --store {tmp_path}/db" in said
    )


def test_a_path_that_urls_escape_is_as_good_as_any(tmp_path: Path) -> None:
    folder = tmp_path / "José's dätä [1]"
    plain(folder / "db")
    says(folder, "init", "--from-live", "--store", "db")
    assert says(folder, "check") == "in sync\n"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "Lance leaves folders behind"


def test_where_lance_cannot_make_its_folders_the_way_out_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "dätä"
    plain(folder / "db")
    (tmp_path / "d%C3%A4t%C3%A4").write_text("in the way")
    done = lancemig(folder, "init", "--from-live", "--store", "db")
    assert done.exit_code == 6
    assert "move the store to a path with only plain letters" in done.stderr


def test_a_damaged_table_stops_the_adoption_with_the_way_out(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    for path in (tmp_path / "db" / "empty.lance" / "_versions").glob("*.manifest"):
        path.write_bytes(b"x")
    done = lancemig(tmp_path, "init", "--from-live", "--store", "db")
    assert done.exit_code == 6
    assert "opening table empty: the files are damaged" in done.stderr
    shutil.rmtree(tmp_path / "db" / "empty.lance")
    assert "baseline" in refuses(tmp_path, "init", "--from-live", "--store", "db")
    says(tmp_path, "baseline")
    assert says(tmp_path, "check") == "in sync\n"


def test_an_adopted_catalog_is_migrated_like_any_other(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    says(tmp_path, "init", "--from-live", "--store", "db")
    (tmp_path / "versions" / "0002.py").write_text(
        'from lancemig import RenameColumn, SetKey\nrevision = "0002"\ndown_revision = "0001"\n'
        'operations = [SetKey(table="notes", key=("id",)),'
        ' RenameColumn(table="notes", column="text", to="note")]\n'
    )
    says(tmp_path, "rehash")
    says(tmp_path, "upgrade")
    assert says(tmp_path, "check") == "in sync\n"
    says(tmp_path, "rollback")
    assert says(tmp_path, "check", "--ignore", "LM401") == "in sync\n"


def test_what_an_older_lancedb_left_is_adopted(tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "db")
    says(tmp_path, "init", "--from-live", "--store", "db")
    assert says(tmp_path, "check") == "in sync\n"
    assert "INVERTED" in next((tmp_path / "versions").glob("0001*.py")).read_text()


def test_a_catalog_under_a_prefix_is_adopted(s3_place: Place, tmp_path: Path) -> None:
    options = {f"aws_{name}": text for name, text in s3_place.options.items()}
    storage = {
        "endpoint": options["aws_endpoint"], "region": s3_place.options.get("region", "us-east-1"),
        "allow_http": "true", "virtual_hosted_style_request": "false",
    }  # fmt: skip
    plain(f"{s3_place.store}/ursa/v1/catalog", storage_options=storage)
    x = [part for name, text in s3_place.options.items() for part in ("-x", f"storage_options.{name}={text}")]
    init = (*x, "init", "--from-live", "--store", s3_place.store)
    assert "has no Lance tables" in refuses(tmp_path, *init)
    assert not (tmp_path / "lancemig.ini").exists()
    says(tmp_path, *x, "-x", "pointer=ursa/ACTIVE.json", *init[len(x) :], "--prefix", "ursa/v1/")
    assert says(tmp_path, "check") == "in sync\n"
    assert "0001 (head)  ursa/v1/" in says(tmp_path, "current")
    new = ("-x", "pointer=new/ACTIVE.json", "-x", "fallback_prefix=new/v1/")
    says(tmp_path, *new, "upgrade", "--create")
    assert says(tmp_path, *new, "check") == "in sync\n"


def test_a_pointer_that_holds_two_prefixes_is_adopted_as_it_is(tmp_path: Path) -> None:
    plain(tmp_path / "db" / "v2" / "catalog")
    pointer = tmp_path / "db" / "ACTIVE.json"
    pointer.write_text('{"active_prefix": "v2/", "previous_prefix": "v1/", "theirs": 7}')
    assert "names v2/ as live root, not v1/" in refuses(
        tmp_path, "init", "--from-live", "--store", "db", "--prefix", "v1"
    )
    says(tmp_path, "init", "--from-live", "--store", "db")
    found = json.loads(pointer.read_text())
    kept = {name: found[name] for name in ("active_prefix", "previous_prefix", "theirs", "revision")}
    assert kept == {"active_prefix": "v2/", "previous_prefix": "v1/", "theirs": 7, "revision": "0001"}
    assert says(tmp_path, "check") == "in sync\n"


@pytest.mark.slow
def test_a_thousand_tables_are_adopted(tmp_path: Path) -> None:
    database = lancedb.connect(tmp_path / "db")
    database.create_table("t0000", pa.table({"id": [1], "text": ["a"]}))
    for number in range(1, 1000):
        shutil.copytree(tmp_path / "db" / "t0000.lance", tmp_path / "db" / f"t{number:04}.lance")
    assert "1,000 tables have no key" in says(tmp_path, "init", "--from-live", "--store", "db")
    assert says(tmp_path, "check") == "in sync\n"


def test_a_project_gets_a_baseline(lab: Lab) -> None:
    plain(Path(lab.place.store) / "v1" / "catalog")
    config = ("-c", str(lab.folder / "lancemig.ini"))
    assert "stamped  b1 (head)  v1/" in says(lab.folder, *config, "baseline", "-m", "Found", "--rev-id", "b1")
    assert (lab.folder / "versions" / "b1_found.py").exists()
    assert says(lab.folder, *config, "check") == "in sync\n"
    assert "the project already has revisions" in refuses(lab.folder, *config, "baseline")


def test_a_catalog_at_a_revision_keeps_it(lab: Lab) -> None:
    plain(Path(lab.place.store) / "v1" / "catalog")
    (Path(lab.place.store) / "ACTIVE.json").write_text('{"active_prefix": "v1/", "revision": "0042"}')
    config = ("-c", str(lab.folder / "lancemig.ini"))
    says(lab.folder, *config, "baseline")
    assert says(lab.folder, *config, "current") == "0042 (head)  v1/\n"


def test_an_index_that_no_operation_makes_is_left_out(lab: Lab) -> None:
    folder = Path(lab.place.store) / "v1" / "catalog"
    plain(folder)
    notes = lancedb.connect(folder).open_table("notes")
    notes.drop_index("vector_idx")
    notes.to_lance().create_index("vector", "IVF_RQ", num_partitions=1)
    config = ("-c", str(lab.folder / "lancemig.ini"))
    assert "left out: no operation can create notes: index vector_idx" in says(
        lab.folder, *config, "baseline"
    )
    said = says(lab.folder, *config, "check")
    assert "LM323  info: notes: index vector_idx on vector was added (IVF_RQ)" in said


def test_nothing_is_overwritten_and_nothing_guessed(tmp_path: Path) -> None:
    plain(tmp_path / "db" / "catalog")
    plain(tmp_path / "db")
    assert "catalog/ have tables" in refuses(tmp_path, "init", "--from-live", "--store", "db")
    says(tmp_path, "-x", "catalog_dir=", "init", "--from-live", "--store", "db")
    assert "already exists" in refuses(tmp_path, "init", "--from-live", "--store", "db")
    done = lancemig(tmp_path, "init", "elsewhere", "--store", "db")
    assert done.exit_code == 2
    assert "--from-live" in done.stderr
    shutil.rmtree(tmp_path / "db")
    (tmp_path / "db").mkdir()
    assert "has no Lance tables" in refuses(tmp_path, "init", "other", "--from-live", "--store", "db")


def test_other_keys_are_checked(tmp_path: Path) -> None:
    plain(tmp_path / "db")
    assert "nonsense" in refuses(tmp_path, "-x", "nonsense=1", "init", "--from-live", "--store", "db")
    assert not (tmp_path / "lancemig.ini").exists()
