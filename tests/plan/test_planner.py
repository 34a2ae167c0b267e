"""From a live catalog and a line of revisions to a plan."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from live import Answers, migrations, planned, situation, taken_back

from lancemig import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropTable,
    RenameColumn,
    RenameTable,
    RetypeColumn,
    RewriteTable,
    SetKey,
    SetMetadata,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.lineage import RootRevision
from lancemig.catalog.operations import Kind, Strategy
from lancemig.errors import ConfigError, Irreversible, PlanError
from lancemig.plan.plan import Carried, CommitRef, Overrides, Plan, Required, Step, downward, read_plan
from lancemig.plan.planner import make_plan
from lancemig.report.plan import plan_text

GOLDEN = Path(__file__).parent.parent / "golden" / "plans"
UPDATE = UpdateRows(table="recordings", set={"fs": "fs * 2"}, where="id > 5")
RENAME = RenameColumn(table="recordings", column="fs", to="rate")
ADD = AddColumn(table="recordings", column="site: string")
COUNTS = Answers({("recordings", "id > 5"): 17})


def transformed(batch):
    return batch


def rows():
    return []


def again(plan: Plan) -> Plan:
    return read_plan(json.loads(json.dumps(plan.document())), "plan.json")


def test_what_promises_enough_is_done_in_place():
    plan = planned([UPDATE], [ADD, SetMetadata(table="hosts", metadata={"a": "b"})])
    assert [m.in_place for m in plan.migrations] == [True, True]
    assert plan.carried == ()
    assert all(step.staged_as is None for m in plan.migrations for step in m.steps)


def test_from_the_first_rebuild_on_everything_is_staged():
    plan = planned([ADD], [RENAME], [UpdateRows(table="recordings", set={"rate": "1"})], [])
    assert [m.revision for m in plan.in_place] == ["0002"]
    assert [m.revision for m in plan.staged] == ["0003", "0004", "0005"]
    assert plan.kind is Kind.REBUILD
    assert {step.staged_as for m in plan.staged for step in m.steps} == {"recordings"}


def test_untouched_tables_are_carried_as_they_are():
    plan = planned([RENAME])
    assert plan.carried == (
        Carried(table="recordings", staged_as="recordings", copied=True, rows=1000, bytes=80_000),
        Carried(table="hosts", staged_as="hosts", copied=True, rows=4, bytes=900),
    )


@pytest.mark.parametrize(
    ("operation", "strategy", "size"),
    [
        (UPDATE, Strategy.COLUMN, 4000),
        (
            BackfillColumns(table="recordings", columns=("id",), reads=("fs",), using=transformed),
            Strategy.COLUMN,
            8000,
        ),
        (ADD, Strategy.METADATA, 0),
        (AddColumn(table="recordings", column="y: int16", sql="fs"), Strategy.COLUMN, 2000),
        (CreateIndex(table="recordings", column="id", type="BTREE"), Strategy.METADATA, 0),
        (RENAME, Strategy.METADATA, 0),
        (RetypeColumn(table="recordings", column="fs", to="int64"), Strategy.COLUMN, 8000),
        # A field of a struct is written with the whole struct.
        (RetypeColumn(table="recordings", column="p.a", to="int16"), Strategy.COLUMN, 20_000),
        (RewriteTable(table="recordings", order_by=("id",)), Strategy.TABLE, 80_000),
        (BuildTable(table="recordings", rows=rows, schema="id: int64", key=("id",)), Strategy.SOURCE, None),
    ],
    ids=lambda given: getattr(given, "op", ""),
)
def test_a_step_tells_its_strategy_and_bytes(operation, strategy, size):
    step = planned([operation]).migrations[0].steps[0]
    assert (step.strategy, step.bytes) == (strategy, size)


def test_the_bytes_of_a_renamed_column_are_known():
    renamed = RenameColumn(table="recordings", column="fs", to="rate")
    step = planned([renamed, UpdateRows(table="recordings", set={"rate": "1"})]).migrations[0].steps[1]
    assert step.bytes == 4000


def test_a_step_tells_the_rows_that_match():
    plan = planned([UPDATE, UpdateRows(table="hosts", set={"name": "1"})], probe=COUNTS)
    assert [step.rows for step in plan.migrations[0].steps] == [17, 4]


def test_once_rows_were_changed_their_number_is_not_guessed():
    step = planned([UPDATE, UPDATE], probe=COUNTS).migrations[0].steps[1]
    assert step.rows is None


def test_steps_are_named_by_revision_and_index():
    plan = planned([ADD, UPDATE], [RENAME])
    assert [step.id for m in plan.migrations for step in m.steps] == ["0002/0", "0002/1", "0003/0"]


def test_the_digest_ignores_the_counts_of_the_day():
    plan = planned([UPDATE], [RENAME], probe=COUNTS)
    later = planned([UPDATE], [RENAME], rows=5000, bytes=1, version=9)
    assert plan != later
    assert plan.digest == later.digest


@pytest.mark.parametrize(
    "other",
    [[[ADD], [RENAME]], [[UPDATE]], [[UPDATE, ADD], [RENAME]], [[RENAME], [ADD]]],
    ids=["another step", "fewer", "more", "another order"],
)
def test_the_digest_depends_on_the_steps(other):
    assert planned([UPDATE], [RENAME]).digest != planned(*other).digest


def test_the_digest_depends_on_the_files():
    plan = planned([UPDATE])
    (migration,) = plan.migrations
    edited = plan.model_copy(update={"migrations": (migration.model_copy(update={"sha256": "0" * 64}),)})
    assert edited.digest != plan.digest


ONE = planned([UPDATE], [RENAME])


def other_step(**fields):
    """The plan with other values in these fields of its first step."""
    first, *others = ONE.migrations
    steps = (first.steps[0].model_copy(update=fields), *first.steps[1:])
    return ONE.model_copy(update={"migrations": (first.model_copy(update={"steps": steps}), *others)})


def other_migration(**fields):
    """The plan with other values in these fields of its last migration."""
    *others, last = ONE.migrations
    return ONE.model_copy(update={"migrations": (*others, last.model_copy(update=fields))})


def other_carried(**fields):
    """The plan with other values in these fields of the first table that it carries."""
    first, *others = ONE.carried
    return ONE.model_copy(update={"carried": (first.model_copy(update=fields), *others)})


LANDED = CommitRef(prefix="v0/", table="recordings", version=4)
OUT_OF_THE_DIGEST = {
    "describe": other_step(describe="multiply fs by two"),
    "why": other_step(why="values change, the schema stays"),
    "notes": other_step(notes=("a note",)),
    "rows and bytes": other_step(rows=9, bytes=9),
    "message": other_migration(message="Reworded."),
    "checks": other_migration(checks=("no nulls (after)",)),
    "tolerances": other_migration(tolerances=("recordings.gain: relative 1e-09",)),
    "why a table is copied": other_carried(why="it holds blobs"),
    "rows and bytes of a carried table": other_carried(rows=9, bytes=9),
    "what is required": ONE.model_copy(update={"requires": Required(etag=None, versions={"hosts": 9})}),
}
IN_THE_DIGEST = {
    "catalog": ONE.model_copy(update={"catalog": "lyra"}),
    "direction": ONE.model_copy(update={"direction": "down"}),
    "origin": ONE.model_copy(update={"origin": RootRevision(prefix="v2/", revision="0001")}),
    "revision of the origin": ONE.model_copy(update={"origin": RootRevision(prefix="v1/", revision=None)}),
    "target": ONE.model_copy(update={"target": "0009"}),
    "brake": ONE.model_copy(update={"overrides": Overrides(max_rows=5)}),
    "overwrite": ONE.model_copy(update={"overrides": Overrides(overwrite=True)}),
    "step id": other_step(id="0002/1"),
    "step revision": other_step(revision="0009"),
    "table": other_step(table="hosts"),
    "staged_as": other_step(staged_as="other"),
    "operation": other_step(operation="backfill_columns"),
    "content": other_step(content="0" * 64),
    "kind": other_step(kind=Kind.ADDITIVE),
    "strategy": other_step(strategy=Strategy.TABLE),
    "undoes": other_step(undoes=(LANDED,)),
    "leads_to": other_migration(leads_to="0009"),
    "revision": other_migration(revision="0009"),
    "kind of a migration": other_migration(kind=Kind.ADDITIVE),
    "file": other_migration(sha256="0" * 64),
    "in_place": other_migration(in_place=True),
    "carried table": other_carried(table="others"),
    "carried as": other_carried(staged_as=None),
    "copied": other_carried(copied=not ONE.carried[0].copied),
    "cloned": other_carried(by="clone"),
    "no table carried": ONE.model_copy(update={"carried": ()}),
    "digest version": ONE.model_copy(update={"digest_version": 1}),
}


@pytest.mark.parametrize("what", OUT_OF_THE_DIGEST)
def test_sentences_and_counts_are_no_part_of_the_digest(what):
    assert OUT_OF_THE_DIGEST[what] != ONE
    assert OUT_OF_THE_DIGEST[what].digest == ONE.digest


@pytest.mark.parametrize("what", IN_THE_DIGEST)
def test_what_is_done_is_part_of_the_digest(what):
    assert IN_THE_DIGEST[what].digest != ONE.digest


def test_a_field_that_a_later_release_adds_is_no_part_of_the_digest():
    class LaterStep(Step):
        colour: str = "red"

    first, *others = ONE.migrations
    steps = tuple(LaterStep(**step.model_dump()) for step in first.steps)
    later = first.model_copy(update={"steps": steps})
    assert ONE.model_copy(update={"migrations": (later, *others)}).digest == ONE.digest


def test_what_an_operation_says_is_told_from_another_by_its_fields_not_by_its_sentence():
    class Reworded(UpdateRows):
        later: int | None = None

        def describe(self):
            return "another sentence"

    fields = {"table": "recordings", "set": {"fs": "fs * 2"}, "where": "id > 5"}
    assert Reworded(**fields).content() == UPDATE.content()
    assert Reworded(**fields, later=1).content() != UPDATE.content()
    others = [UPDATE.model_copy(update=change) for change in ({"where": "id > 6"}, {"max_rows": 3})]
    others.append(UPDATE.model_copy(update={"set": {"fs": "fs * 3"}}))
    assert len({one.content() for one in (UPDATE, RENAME, ADD, *others)}) == 6


@pytest.mark.parametrize("name", ["in-place", "rebuild", "replaced", "downgrade"])
def test_each_step_of_a_plan_has_the_content_of_its_operation(name):
    steps = [step for migration in PLANS[name].migrations for step in migration.steps]
    assert all(step.content and len(step.content) == 64 for step in steps)
    assert len({step.content for step in steps}) == len(steps)


def test_a_derived_downgrade_that_is_another_has_another_digest():
    """Of the same files: the key that comes back is the one that earlier files tell."""
    line = migrations([SetKey(table="hosts", key=("name",))])
    known = situation().live.catalog
    plans = []
    for key in ((), ("name",)):
        before = known.with_table("hosts", known.table("hosts").model_copy(update={"key": key}))
        work = downward(line, {"0002": before})
        plans.append(make_plan(situation(), "down", "0001", work, Answers()))
    assert [plan.migrations[0].sha256 for plan in plans] == [line[0].header.sha256] * 2
    assert plans[0].digest != plans[1].digest


def test_a_brake_of_no_rows_is_part_of_an_older_digest_too():
    """As release 0.1.0 computed it: what is 0 was given."""
    older = ONE.model_copy(update={"digest_version": 1})
    assert older.model_copy(update={"overrides": Overrides(max_rows=0)}).digest != older.digest
    assert older.model_copy(update={"overrides": Overrides()}).digest == older.digest


@pytest.mark.parametrize("found", [3, 0, -1, "2", None])
def test_a_digest_of_a_newer_release_is_refused_as_a_newer_format_is(found):
    document = {**ONE.document(), "digest_version": found, "later": "field"}
    with pytest.raises(
        ConfigError, match=f"plan.json has digest_version {found}; .* knows up to 2"
    ) as refused:
        read_plan(document, "plan.json")
    assert refused.value.next_step == "lancemig upgrade --plan --out FILE"


@pytest.mark.parametrize(
    "path",
    [
        ("migrations", 0, "steps", 0, "describe"),
        ("migrations", 0, "message"),
        ("requires", "versions", "hosts"),
        ("start", "tables", "hosts", "key"),
        ("checksum",),
    ],
    ids=str,
)
def test_a_sentence_that_was_changed_in_a_saved_plan_is_noticed_too(path):
    """What a reviewer read in the file is what was saved, though the digest does not depend on it."""
    document = json.loads(json.dumps(ONE.document()))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = ["name"] if path[-1] == "key" else 7 if "versions" in path else "another"
    with pytest.raises(ConfigError, match="was changed after it was saved: its checksum does not match"):
        read_plan(document, "plan.json")


@pytest.mark.parametrize("gone", [("checksum",), ("checksum", "digest_version")])
def test_a_saved_plan_cannot_be_passed_off_as_an_older_one(gone):
    document = {name: value for name, value in ONE.document().items() if name not in gone}
    with pytest.raises(ConfigError, match="was changed after it was saved"):
        read_plan(document, "plan.json")


def test_a_plan_reads_back_from_its_document():
    plan = planned(
        [UPDATE, ADD, CreateTable(table="new", schema={"v": "fixed_size_list<float32>[3]", "a:b": "int8"})],
        [RENAME, DropTable(table="hosts")],
        probe=COUNTS,
    )
    assert again(plan) == plan
    assert again(plan).digest == plan.digest


@pytest.mark.parametrize(
    ("where", "value"),
    [("target", "0009"), ("direction", "down"), ("migrations", []), ("digest", "0" * 64), ("digest", None)],
)
def test_a_saved_plan_that_was_changed_is_refused(where, value):
    document = {**planned([UPDATE]).document(), where: value}
    with pytest.raises(ConfigError, match="was changed after it was saved") as refused:
        read_plan(document, "plan.json")
    assert refused.value.next_step == "lancemig upgrade --plan --out FILE"


@pytest.mark.parametrize("document", [[], {}, {"format": 2}, {"format": 1, "catalog": "x"}], ids=str)
def test_what_is_no_plan_is_refused(document):
    with pytest.raises(ConfigError, match=r"plan\.json"):
        read_plan(document, "plan.json")


def test_a_later_impossible_operation_is_named_before_anything():
    bad = DropColumn(table="recordings", column="nope")
    with pytest.raises(PlanError) as refused:
        planned([UPDATE], [RENAME, bad])
    assert "revision 0003, operation 2 (drop column nope on recordings)" in refused.value.message
    assert "columns: id, rate, note, p" in refused.value.message
    assert "0003.py" in refused.value.next_step


def test_an_unknown_table_is_named_with_those_there_are():
    with pytest.raises(PlanError, match="table 'recs' does not exist; tables: hosts, recordings"):
        planned([UpdateRows(table="recs", set={"a": "1"})])


def test_a_plan_requires_what_it_was_made_from():
    plan = planned([UPDATE])
    assert plan.requires.etag == '"abc"'
    assert plan.requires.versions == {"recordings": 3, "hosts": 1}


def test_a_value_change_is_undone_where_it_landed():
    landed = (CommitRef(prefix="v1/", table="recordings", version=4),)
    plan = taken_back(migrations([UPDATE]), {"0002/0": landed})
    (step,) = plan.migrations[0].steps
    assert (step.id, step.operation, step.undoes) == ("0002/down.0", "undo_rows", landed)
    assert plan.migrations[0].leads_to == "0001"


def test_a_value_change_that_the_lineage_does_not_know_is_irreversible():
    with pytest.raises(Irreversible, match="does not record the commit of step 0002/0"):
        taken_back(migrations([UPDATE]))


def test_a_migration_is_taken_back_last_operation_first():
    plan = taken_back(migrations([ADD, RENAME], [CreateTable(table="x", schema="a: int8")]))
    assert [(m.revision, [step.describe for step in m.steps]) for m in plan.migrations] == [
        ("0003", ["drop table"]),
        ("0002", ["rename column rate to fs", "drop column site"]),
    ]


def test_an_irreversible_operation_names_revision_and_operation():
    with pytest.raises(
        Irreversible, match="0002, operation 2 on recordings: no inverse can be derived for: drop column note"
    ):
        taken_back(migrations([ADD, DropColumn(table="recordings", column="note")]))


def test_a_declared_downgrade_is_taken_instead():
    line = migrations([DropColumn(table="recordings", column="note")], downgrade=(ADD,))
    assert [step.describe for step in taken_back(line).migrations[0].steps] == ["add column site: string"]


PLANS = {
    "in-place": planned(
        [UPDATE, ADD], [CreateIndex(table="hosts", column="name", type="BTREE")], probe=COUNTS
    ),
    "rebuild": planned(
        [UPDATE],
        [
            RENAME,
            RetypeColumn(table="recordings", column="rate", to="float64"),
            RenameTable(table="hosts", to="machines"),
        ],
        [BuildTable(table="sessions", rows=rows, schema=["id: int64"])],
        probe=COUNTS,
    ),
    "replaced": planned(
        [
            DropTable(table="hosts"),
            TransformTable(table="recordings", using=transformed, reads=("id",), schema="id: int64"),
        ]
    ),
    "nothing": planned(),
    "downgrade": taken_back(migrations([ADD], [RENAME])),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_shown_as_approved(name):
    """ACCEPT=1 in the environment approves what is shown now."""
    text = plan_text(PLANS[name], store="s3://ursa", staging="ursa-staging-RUN/") + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("ACCEPT"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_what_a_table_borrows_from_the_same_bucket_is_no_hindrance_and_from_another_is():
    inside, outside = (f"s3://{bucket}/v0/catalog/recordings.lance" for bucket in ("ours", "theirs"))
    given = replace(situation(borrows=(inside,)), store="s3://ours")
    assert planned([RENAME], given=given).carried[0].by == "copy"
    with pytest.raises(PlanError, match="table recordings borrows files from s3://theirs") as refused:
        planned([RENAME], given=replace(situation(borrows=(outside,)), store="s3://ours"))
    assert "RewriteTable" in str(refused.value)


def test_cloning_is_for_all_tables_but_those_with_blobs_and_has_a_digest_of_its_own():
    plan = planned([RENAME], given=replace(situation(blobs=True), staging="clone"))
    assert {c.table: (c.by, bool(c.why)) for c in plan.carried} == {
        "recordings": ("copy", True),
        "hosts": ("clone", False),
    }
    assert plan.digest != planned([RENAME], blobs=True).digest
    assert again(plan) == plan
    assert "note  recordings: copied instead of cloned: it has Lance blobs" in plan_text(
        plan, store="s", staging="t"
    )
