import math
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from lancemig import Check
from lancemig.config import Settings, read_settings, template_ini
from lancemig.errors import ConfigError


@pytest.fixture
def ini(tmp_path):
    path = tmp_path / "lancemig.ini"

    def write(text):
        path.write_text(text)
        return path

    return write


def settings(path, name="lancemig", *, x=(), **environ) -> Settings:
    return read_settings(path, name, environ=environ, x=x)


def refusal(path, name="lancemig", *, x=(), **environ) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(path, name, x=x, **environ)
    assert caught.value.next_step
    return str(caught.value)


def only(key, value):
    return f"[lancemig]\nstore = s3://bucket\n{key} = {value}\n"


def test_a_store_is_all_that_is_needed(ini, tmp_path):
    found = settings(ini("[lancemig]\nstore = s3://recordings\n"))
    assert found == Settings(
        name="lancemig",
        path=tmp_path / "lancemig.ini",
        script_location=tmp_path / "versions",
        prepend_sys_path=(tmp_path,),
        store="s3://recordings",
        pointer="ACTIVE.json",
        catalog_dir="catalog/",
        fallback_prefix=None,
        resolution="pointer",
        staging_prefix="lancemig-staging-{timestamp}-{run}/",
        protected=False,
        lock_ttl=60.0,
        storage_options={},
    )
    assert found.zone is UTC


def test_another_section_inherits_every_key(ini):
    path = ini("""
[lancemig]
store = s3://dev
pointer = ursa/ACTIVE.json
lock_ttl = 30

[prod]
store = s3://prod
protected = yes
""")
    prod = settings(path, "prod")
    assert (prod.name, prod.store, prod.protected) == ("prod", "s3://prod", True)
    assert (prod.pointer, prod.lock_ttl) == ("ursa/ACTIVE.json", 30.0)
    assert not settings(path).protected


def test_sections_of_alembic_are_left_alone(ini):
    path = ini("[lancemig]\nstore = s3://b\n[post_write_hooks]\nhooks =\n[logger_root]\nlevel = %(x)s\n")
    assert settings(path).store == "s3://b"
    assert "no section [post_write_hooks]" in refusal(path, "post_write_hooks")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("store", "HERE/store"),
        ("./a/../store", "HERE/store"),
        ("%(here)s/store", "HERE/store"),
        ("/srv/catalog", "/srv/catalog"),
        ("file:///srv/catalog", "file:///srv/catalog"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://${BUCKET}", "s3://from-env"),
        ("s3://%(bucket)s/%%(x)s/$${X}", "s3://from-key/%(x)s/${X}"),
    ],
)
def test_a_store_is_read_relative_to_the_file_with_keys_and_variables(ini, tmp_path, written, read):
    bucket = "bucket = from-key\n" if "%(bucket)s" in written else ""
    found = settings(ini(f"[lancemig]\nstore = {written}\n{bucket}"), BUCKET="from-env")
    assert found.store == read.replace("HERE", str(tmp_path))


def test_what_a_variable_holds_is_not_expanded_again(ini):
    assert settings(ini("[lancemig]\nstore = /srv/${V}\n"), V="%(x)s${V}").store == "/srv/%(x)s${V}"


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("catalog_dir", "", ""),
        ("catalog_dir", "tables", "tables/"),
        ("fallback_prefix", "ursa", "ursa/"),
        ("fallback_prefix", "ursa/v0.1.0/", "ursa/v0.1.0/"),
        ("fallback_prefix", "", ""),
        ("staging_prefix", "s-{timestamp}-{run}", "s-{timestamp}-{run}/"),
        ("pointer", "ursa/ACTIVE.json", "ursa/ACTIVE.json"),
        ("lock_ttl", "5", 5.0),
        ("protected", "On", True),
        ("timezone", "utc", "utc"),
        ("timezone", "Europe/Berlin", "Europe/Berlin"),
        ("file_template", "{year}{month:02}-{rev}", "{year}{month:02}-{rev}"),
        ("file_template", "%%(year)d_%%(month).2d-%%(rev)s_%%(slug)s", "{year}_{month:02}-{rev}_{slug}"),
    ],
)
def test_values_are_normalised(ini, key, written, read):
    assert getattr(settings(ini(only(key, written))), key) == read


@pytest.mark.parametrize(
    ("key", "written", "why"),
    [
        ("store", "gs://bucket", "gs:// is not supported"),
        ("store", "s3://", "write s3://bucket"),
        ("store", "file://relative", "file:///path"),
        ("store", "", "a path is required"),
        ("pointer", "/ACTIVE.json", "inside the store"),
        ("pointer", "ursa/", "is not an object key"),
        ("pointer", "a/../b.json", "inside the store"),
        ("catalog_dir", "a//b", "inside the store"),
        ("fallback_prefix", "/ursa/", "inside the store"),
        ("fallback_prefix", "ursa-{run}/", "{run} is not supported here"),
        ("staging_prefix", "staging-{timestamp}/", "must contain {run}"),
        ("staging_prefix", "staging-{rnu}-{run}/", "{rnu} is unknown"),
        ("staging_prefix", "{run}-{/", "{ is unknown"),
        ("resolution", "pointr", "'pointr' is not pointer or pinned"),
        ("protected", "maybe", "'maybe' is not true or false"),
        ("protected", "", "not true or false"),
        ("lock_ttl", "soon", "'soon' is not a number of seconds"),
        ("lock_ttl", "4.9", "the minimum is 5 s"),
        ("lock_ttl", "nan", "the minimum is 5 s"),
        ("timezone", "Europe/Berln", "did you mean Europe/Berlin"),
        ("file_template", "{slug}", "must contain {rev}"),
        ("file_template", "a/{rev}", "no /"),
        ("file_template", "{rev}_%%(slg)s", "unknown token 'slg'"),
        ("file_template", "{rev", "is not a valid template"),
        ("file_template", "{rev}{0}", "is not a valid template"),
        ("file_template", "{rev.x}", "is not a valid template"),
        ("file_template", "%(rev)s", "write {rev}"),
        ("storage_options.path_style", "perhaps", "not true or false"),
        (
            "script_location",
            "%(heer)s/versions",
            "%(heer)s: this section has no such key; did you mean here?",
        ),
        ("script_location", "${HOMEE}", "variable HOMEE is not set; did you mean HOME?"),
        ("script_location", "%(script_location)s", "refers to itself"),
        ("script_location", "100%", "write a literal % as %%"),
        ("script_location", "a$b", "write a literal $ as $$"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(ini, key, written, why):
    path = ini(f"[lancemig]\nstore = s3://b\n[prod]\n{key} = {written}\n")
    said = refusal(path, "prod", HOME="/root")
    assert said.startswith(f"lancemig.ini [prod] {key}: ")
    assert why in said


def test_a_misspelt_key_is_named_with_what_was_meant(ini):
    path = ini("[lancemig]\nstore = s3://b\n[prod]\nprotcted = true\n")
    assert refusal(path, "prod").startswith(
        "lancemig.ini [prod] protcted is not a known key; did you mean protected?"
    )
    assert settings(path).store == "s3://b"


def test_an_inherited_mistake_is_told_where_it_was_written(ini):
    assert refusal(ini("[lancemig]\nstore = s3://b\nlock_ttl = 1\n[prod]\n"), "prod").startswith(
        "lancemig.ini [lancemig] lock_ttl: "
    )


def test_a_missing_store_is_named(ini):
    assert refusal(ini("[lancemig]\n")).startswith("lancemig.ini [lancemig] store is missing")


def test_pinned_needs_a_root(ini):
    assert "pinned requires fallback_prefix" in refusal(ini(only("resolution", "pinned")))
    pinned = settings(ini(only("resolution", "pinned") + "fallback_prefix = v1\n"))
    assert (pinned.resolution, pinned.fallback_prefix) == ("pinned", "v1/")


def test_a_missing_file_names_lancemig_init(tmp_path):
    said = refusal(tmp_path / "lancemig.ini")
    assert f"{tmp_path}/lancemig.ini does not exist" in said
    assert "next: create one: lancemig init" in said


def test_a_folder_is_no_file(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("store = s3://b\n", "no section headers"),
        ("[lancemig]\nstore = a\nstore = b\n", "'store' in section 'lancemig' already exists"),
        ("[lancemig]\nprotected\n", "protected"),
        ("[lancemigg]\nstore = a\n", "no section [lancemig]; did you mean lancemigg?"),
        ("[DEFAULT]\nstore = a\n[lancemig]\n", "has a [DEFAULT] section"),
        ("[lancemig]\nstore = a\n  protected = true\n", "store continues on a second line"),
    ],
)
def test_a_file_that_says_something_else_than_it_seems_to_is_refused(ini, text, why):
    assert why in refusal(ini(text))


def test_a_misspelt_section_is_named_with_what_was_meant(ini):
    said = refusal(ini("[lancemig]\nstore = s3://b\n[production]\n"), "producton")
    assert "no section [producton]; did you mean production?" in said
    assert "another section with -n: [lancemig], [production]" in said


def test_storage_options_are_handed_on_where_given(ini):
    path = ini("""
[lancemig]
store = s3://b
storage_options.endpoint = ${ENDPOINT}
storage_options.path_style = YES
storage_options.region =
""")
    assert settings(path, ENDPOINT="http://127.0.0.1:9000").storage_options == {
        "endpoint": "http://127.0.0.1:9000",
        "path_style": "true",
    }
    assert settings(path, ENDPOINT="").storage_options == {"path_style": "true"}


@pytest.mark.parametrize(
    "key",
    ["aws_access_key_id", "storage_options.secret_access_key", "storage_options.session_token", "password"],
)
def test_credentials_are_refused_and_not_repeated(ini, key):
    said = refusal(ini(only(key, "AKIAVERYSECRET")))
    assert said.startswith(f"lancemig.ini [lancemig] {key}: credentials must not be in")
    assert "AWS_ACCESS_KEY_ID" in said
    assert "AKIAVERYSECRET" not in said


def test_a_password_in_the_store_is_not_repeated(ini):
    assert "hunter2" not in refusal(ini("[lancemig]\nstore = s3://me:hunter2@bucket\n"))


def test_x_goes_before_the_file(ini):
    path = ini("[lancemig]\nstore = s3://%(site)s\nsite = here\nlock_ttl = 10\n")
    found = settings(path, x=["site=there", "lock_ttl=20"])
    assert (found.store, found.lock_ttl) == ("s3://there", 20.0)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ("lock_tl=7", "-x lock_tl is not a known key; did you mean lock_ttl?"),
        ("lock_ttl=x", "-x lock_ttl: 'x' is not a number"),
        ("lock_ttl", "-x lock_ttl is not in the form key=value"),
        ("protected=false", "-x protected: this key can be set only in the file"),
    ],
)
def test_a_wrong_x_is_refused(ini, x, why):
    assert why in refusal(ini("[lancemig]\nstore = s3://b\nprotected = true\n"), x=[x])


def test_a_staged_root_is_named_by_its_run(ini):
    found = settings(ini("[lancemig]\nstore = s3://b\nstaging_prefix = ursa-staging-{timestamp}-{run}/\n"))
    assert (
        found.staged_root(timestamp="20260520T190000Z", run="7c1d") == "ursa-staging-20260520T190000Z-7c1d/"
    )


def test_the_template_reads_as_the_defaults(ini, tmp_path):
    found = settings(ini(template_ini()))
    assert found == settings(ini("[lancemig]\nstore = store\nfallback_prefix = v1/\n"))
    assert found.store == f"{tmp_path}/store"


def test_the_template_shows_every_key_with_a_value_that_is_read(ini):
    keys = template_ini().partition("# More catalogs")[0]
    shown = [line.removeprefix("# ") for line in keys.splitlines() if " = " in line]
    found = settings(ini("[lancemig]\n" + "\n".join(dict.fromkeys(shown)) + "\n"))
    assert found.storage_options.keys() == {"endpoint", "region", "path_style", "profile"}
    unset = {name for name in Settings.model_fields if name not in found.model_fields_set}
    assert unset == set()


def test_the_template_shows_sections_that_are_read(ini):
    keys, _, sections = template_ini().partition("# More catalogs")
    shown = [line.removeprefix("# ") for line in sections.splitlines() if " = " in line or "# [" in line]
    found = settings(ini(keys + "\n".join(shown) + "\n"), "production")
    assert found.protected
    assert [(check.name, check.expect) for check in found.checks] == [
        ("every rate is positive", ()),
        ("there are participants", True),
    ]


class TestChecks:
    """The section `[checks]`."""

    def read(self, ini, text):
        [found] = settings(ini(f"[lancemig]\nstore = s3://b\n[checks]\n{text}\n")).checks
        return found

    def test_belong_to_every_catalog_of_the_file(self, ini):
        path = ini(
            "[lancemig]\nstore = s3://b\n[checks]\na = select 1\nB b = select 2\n[prod]\nprotected = 1\n"
        )
        assert settings(path).checks == settings(path, "prod").checks
        assert [check.name for check in settings(path).checks] == ["a", "B b"]

    def test_are_none_where_there_is_no_section(self, ini):
        assert settings(ini("[lancemig]\nstore = s3://b\n")).checks == ()
        assert settings(ini("[lancemig]\nstore = s3://b\n[checks]\n")).checks == ()

    def test_are_no_catalog(self, ini):
        path = ini("[lancemig]\nstore = s3://b\n[checks]\na = select 1\n")
        said = refusal(path, "checks")
        assert "no section [checks]" in said
        assert "another section with -n: [lancemig]" in said

    def test_are_taken_as_they_are_written(self, ini):
        found = self.read(ini, "late = select *\n  from t -- 100% of ${HOME}\n  where a like '%(here)s%%'\n")
        assert found == Check(
            sql="select *\nfrom t -- 100% of ${HOME}\nwhere a like '%(here)s%%'", name="late", expect=[]
        )

    @pytest.mark.parametrize(
        ("text", "sql", "expect"),
        [
            ("select 1", "select 1", ()),
            ("select 1 => []", "select 1", ()),
            ("select 1=>1", "select 1", 1),
            ("select 1 => -1.5e3", "select 1", -1500.0),
            ("select 1\n  => +7", "select 1", 7),
            ("select 1 => TRUE", "select 1", True),
            ("select 1 => false", "select 1", False),
            ("select 1 => null", "select 1", None),
            ("select 1 => 'it''s => (so)'", "select 1", "it's => (so)"),
            ('select 1 => "2026-02-09"', "select 1", "2026-02-09"),
            ("select * from f(a => 1)", "select * from f(a => 1)", ()),
            ("select * from f(a => 1) => 2", "select * from f(a => 1)", 2),
            ("select * from f(a => '=> 1') => 2", "select * from f(a => '=> 1')", 2),
        ],
    )
    def test_expect_what_follows_the_last_arrow(self, ini, text, sql, expect):
        found = self.read(ini, f"a = {text}")
        assert (found.sql, found.expect, type(found.expect)) == (sql, expect, type(expect))

    def test_may_expect_what_is_no_number(self, ini):
        assert math.isnan(self.read(ini, "a = select 1 => nan").expect)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("a = select 1 => 1O", "[checks] a: expected a number, true, false, null, [] (no row)"),
            ("a = select 1 => ok", "not 'ok'"),
            ("a = select 1 => 'ok", 'not "\'ok"'),
            ("a = select 1 =>", "not ''"),
            ('a = select 1 => "ok', "or quoted text"),
            ("a = select 1 => [1]", "not '[1]'"),
            ("a =", "[checks] a: an SQL query is required"),
            ("a = => 0", "an SQL query is required"),
            ("a = select 1\na = select 2", "already exists"),
            ("a", "parsing errors"),
        ],
    )
    def test_that_are_wrong_are_refused_where_they_stand(self, ini, text, why):
        said = refusal(ini(f"[lancemig]\nstore = s3://b\n[checks]\n{text}\n"))
        assert why in said


def test_the_shipped_file_is_read():
    root = Path(__file__).parent.parent
    found = settings(root / "lancemig.ini")
    assert found.script_location == root / "versions"
    assert (found.store, found.pointer) == (str(root / "example-store"), "ursa/ACTIVE.json")
    assert (found.fallback_prefix, found.catalog_dir) == ("ursa/v0.1.0/", "catalog/")
    assert found.staging_prefix == "ursa-staging-{timestamp}-{run}/"


def test_settings_load_neither_arrow_nor_lance_nor_boto3():
    program = (
        "import sys, lancemig.config; print({'pyarrow', 'lance', 'lancedb', 'boto3'} & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
