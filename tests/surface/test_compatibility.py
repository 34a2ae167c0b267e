"""Migrate catalogs that older LanceDB releases wrote, then read and write them with the same release.

Each release is installed in a separate virtual environment, so the tests are nightly.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from servers import Place

pytestmark = pytest.mark.nightly

RELEASES = ("0.25.3", "0.30.2", "0.34.0", "0.36.0", "0.39.0")

CREATE = """
import sys, lancedb, pyarrow as pa
db = lancedb.connect(sys.argv[1])
rows = 512
table = db.create_table("items", pa.table({
    "id": pa.array(range(rows), pa.int64()),
    "price": pa.array([float(n % 50) for n in range(rows)]),
    "text": pa.array([f"item number {n} {'red' if n % 2 else 'blue'}" for n in range(rows)]),
    "vector": pa.array([[float(n % 7), float(n % 5), float(n % 3), 1.0] for n in range(rows)],
                       pa.list_(pa.float32(), 4)),
}))
table.create_scalar_index("id")
table.create_fts_index("text", use_tantivy=False)
table.create_index(metric="l2", num_partitions=1, num_sub_vectors=2, vector_column_name="vector")
db.create_table("notes", pa.table({"id": [1, 2], "note": ["a", "b"]}))
import os; os._exit(0)  # Some releases crash when the interpreter ends.
"""

ACT = """
import json, sys, datetime, lancedb, pyarrow as pa
db = lancedb.connect(sys.argv[1])
table = db.open_table("items")
cost = sys.argv[2]
new = lambda ids: pa.table({
    "id": pa.array(ids, pa.int64()), cost: pa.array([1.5] * len(ids)), "text": ["a green item"] * len(ids),
    "vector": pa.array([[1.0, 1.0, 1.0, 1.0]] * len(ids), pa.list_(pa.float32(), 4)),
}).select([f.name for f in table.schema if f.name in ("id", cost, "text", "vector")])

def upsert(ids):
    found = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    found.execute(new(ids))

def same(left, right):
    assert left == right, f"{left} is not {right}"

ACTIONS = {
    "count": lambda: same(table.count_rows(), 512),
    "filter by index": lambda: same(len(table.search().where("id = 7").to_list()), 1),
    "vector search": lambda: same(len(table.search([1.0, 1.0, 1.0, 1.0]).limit(5).to_list()), 5),
    "full text search": lambda: same(len(table.search("blue", query_type="fts").limit(3).to_list()), 3),
    "add": lambda: table.add(new([1000, 1001])),
    "update": lambda: table.update(where="id = 3", values={cost: 99.0}),
    "upsert": lambda: upsert([1001, 1002]),
    "optimize": lambda: table.optimize(),
    "filter": lambda: same(len(table.search().where(f"{cost} = 99.0").limit(9).to_list()), 1),
    "upsert again": lambda: upsert([1002, 1003]),
    "delete": lambda: table.delete("id >= 1000"),
    "add columns": lambda: table.add_columns({"twice": f"{cost} * 2"}),
}
results = {}
for name, act in ACTIONS.items():
    try:
        act()
        results[name] = "ok"
    except Exception as error:
        results[name] = f"{type(error).__name__}: {str(error)[:200]}"
results["rows"] = table.count_rows()
print(json.dumps(results), flush=True)
import os; os._exit(0)
"""


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with one release; LANCEMIG_RELEASES names a folder that keeps them."""
    kept = os.environ.get("LANCEMIG_RELEASES")
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("releases")) / request.param
    python = folder / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv")
        wanted = [f"lancedb=={request.param}", "pandas"]
        if uv:
            run(uv, "venv", "-q", "--python", sys.executable, str(folder))
            run(uv, "pip", "install", "-q", "--python", str(python), *wanted)
        else:
            run(sys.executable, "-m", "venv", str(folder))
            run(str(python), "-m", "pip", "install", "-q", *wanted)
    return python


def run(*words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def acted(python: Path, lab: Lab, cost: str) -> dict[str, Any]:
    folder = f"{lab.place.store}/{lab.root}catalog"
    found: dict[str, Any] = json.loads(run(str(python), "-c", ACT, folder, cost).splitlines()[-1])
    return found


@pytest.fixture
def lab(tmp_path: Path, local_place: Place, release: Path) -> Lab:
    """A catalog that the release made, and a first revision in place."""
    lab = Lab(tmp_path / "lab", local_place)
    folder = Path(local_place.store) / "v1" / "catalog"
    folder.mkdir(parents=True)
    run(str(release), "-c", CREATE, str(folder))
    lab.revision('SetKey(table="items", key=("id",))')
    lab.upgrade()
    return lab


@pytest.mark.parametrize("staging", ["copy", "clone"])
@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(
            'UpdateRows(table="items", set={"price": "price + 1"}, where="id < 100")', id="in place"
        ),
        pytest.param('RenameColumn(table="items", column="price", to="cost")', id="items rebuilt"),
        pytest.param('RenameColumn(table="notes", column="note", to="text")', id="items carried"),
    ],
)
def test_the_release_reads_and_writes_what_was_migrated(
    lab: Lab, release: Path, operation: str, staging: str
) -> None:
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text().replace("staging = copy", f"staging = {staging}"))
    lab.revision(operation)
    lab.upgrade()
    results = acted(release, lab, "cost" if "cost" in operation else "price")
    assert {name: text for name, text in results.items() if text != "ok"} == {"rows": 512}
