"""Migration files as people write them, each with the codes that `lint` gives it."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from lancemig.catalog.findings import Finding
from lancemig.commands.linting import lint
from lancemig.config import read_settings

Lint = Callable[[str], list[Finding]]

FIRST = '''
"""Create the recordings."""
import pyarrow as pa
from lancemig import CreateIndex, CreateTable

revision = "0001"
down_revision = None
operations = [
    CreateTable(
        table="rec",
        schema=pa.schema(
            [
                pa.field("id", pa.int64(), nullable=False),
                pa.field("host", pa.string()),
                pa.field("gain", pa.float64()),
                pa.field("samples", pa.int64()),
                pa.field("at", pa.timestamp("us")),
                pa.field("audio", pa.binary()),
                pa.field("unit", pa.string()),
                pa.field("device", pa.struct([("serial", pa.string()), ("channels", pa.int32())])),
            ]
        ),
        key=("id",),
    ),
    CreateIndex(table="rec", column="host", type="BTREE"),
]
'''
BACKFILL = 'BackfillColumns(table="rec", columns=("gain",), reads=("gain",), using=f)'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    (tmp_path / "lancemig.ini").write_text("[lancemig]\nstore = store\n")
    (tmp_path / "versions" / "0001_first.py").write_text(FIRST.lstrip())
    return tmp_path


@pytest.fixture
def linted(project: Path) -> Lint:
    """What lint finds in a second revision, of which this is the text below the header."""

    def found(body: str) -> list[Finding]:
        header = '"""What it does."""\nimport pyarrow as pa\nfrom lancemig import *\n'
        header += 'revision = "0002"\ndown_revision = "0001"\n'
        (project / "versions" / "0002_next.py").write_text(header + dedent(body))
        return lint(read_settings(project / "lancemig.ini", environ={}), ignored=["LM210"])

    return found


FUNCTIONS = {
    # Clocks.
    "utcnow": (
        "from datetime import datetime",
        "return pa.array([datetime.utcnow().year] * len(batch))",
        "LM010",
    ),
    "now in a zone": ("import datetime as dt", "return pa.array([dt.datetime.now(tz=dt.UTC)])", "LM010"),
    "a clock under another name": ("import time\nclock = time.time", "return pa.array([clock()])", "LM010"),
    "a clock handed over": (
        "import time",
        "return pa.array(list(map(lambda _: time.time_ns(), batch)))",
        "LM010",
    ),
    "today by a word": ("", "import pandas as pd; return pa.array([pd.Timestamp('now')])", "LM010"),
    "numpy's now": ("import numpy as np", "return pa.array([np.datetime64('now')])", "LM010"),
    "a constant date": ("", "import pandas as pd; return pa.array([pd.Timestamp('2026-05-20')])", None),
    "a time that is given": (
        "import time",
        "return pa.array([time.gmtime(x.as_py()) for x in batch[0]])",
        None,
    ),
    "a date spelt": ("import time", "return pa.array([time.strftime('%Y', time.gmtime(0))])", None),
    "the local zone": (
        "from datetime import datetime",
        "return pa.array([datetime.fromtimestamp(1)])",
        "LM010",
    ),
    "a zone given": (
        "from datetime import UTC, datetime",
        "return pa.array([datetime.fromtimestamp(1, UTC)])",
        None,
    ),
    "parsing": (
        "from datetime import datetime",
        "return pa.array([datetime.fromisoformat('2026-01-01')])",
        None,
    ),
    "a parameter called time": (
        "import time",
        "return pa.array(list(map(lambda time: time.time(), batch)))",
        None,
    ),
    "sleep": ("import time", "time.sleep(0); return batch[0]", None),
    "a default of now": (
        "from datetime import datetime",
        "def g(x, now=datetime.now()):\n        return now\n    return pa.array([g(1)])",
        "LM010",
    ),
    # Chance.
    "uuid4": ("from uuid import uuid4", "return pa.array([str(uuid4()) for _ in batch[0]])", "LM010"),
    "uuid5": ("import uuid", "return pa.array([str(uuid.uuid5(uuid.NAMESPACE_URL, 'x'))])", None),
    "uuid parsed": ("import uuid", "return pa.array([uuid.UUID('0' * 32).hex])", None),
    "numpy.random": ("import numpy as np", "return pa.array(np.random.normal(size=len(batch)))", "LM010"),
    "numpy.random imported": ("from numpy import random", "return pa.array(random.normal(size=1))", "LM010"),
    "an unseeded generator": (
        "import numpy as np",
        "return pa.array(np.random.default_rng().random(1))",
        "LM010",
    ),
    "a seed of None": (
        "import numpy as np",
        "return pa.array(np.random.default_rng(None).random(1))",
        "LM010",
    ),
    "a seed by name": (
        "import numpy as np",
        "return pa.array(np.random.default_rng(seed=7).random(1))",
        None,
    ),
    "a bit generator": (
        "import numpy as np",
        "return pa.array(np.random.Generator(np.random.PCG64(7)).random(1))",
        None,
    ),
    "the seed of all": ("import random", "random.seed(7); return batch[0]", "LM012"),
    "a generator of the file": (
        "import numpy as np\nRNG = np.random.default_rng(7)",
        "return pa.array(RNG.normal(size=len(batch)))",
        "LM012",
    ),
    "a projection drawn once": (
        "import numpy as np\nPROJECTION = np.random.default_rng(7).normal(size=(4, 2))",
        "return pa.array((batch[0].to_numpy() @ PROJECTION)[:, 0])",
        None,
    ),
    "random handed over": ("import random", "return pa.array(list(map(random.gauss, batch)))", "LM010"),
    "an annotation": ("import random", "r: random.Random | None = None; return batch[0]", None),
    "isinstance": (
        "import random",
        "return batch[0] if isinstance(batch, random.Random) else batch[0]",
        None,
    ),
    "secrets": ("import secrets", "return pa.array([secrets.token_hex(4)])", "LM010"),
    "hash of a text": ("", "return pa.array([hash(x) for x in batch[0].to_pylist()])", "LM010"),
    "hashlib": ("import hashlib", "return pa.array([hashlib.sha256(b'x').hexdigest()])", None),
    "hash of its own": ("def hash(x):\n    return len(x)", "return pa.array([hash('x')])", None),
    "a set joined": ("", "return pa.array([','.join(set(x)) for x in batch[0].to_pylist()])", "LM010"),
    "a sorted set joined": (
        "",
        "return pa.array([','.join(sorted(set(x))) for x in batch[0].to_pylist()])",
        None,
    ),
    # Outside.
    "requests": ("import requests", "return pa.array([requests.get('http://x').text])", "LM011"),
    "a session of the file": (
        "import requests\nSESSION = requests.Session()",
        "return pa.array([SESSION.get('http://x').text])",
        "LM011",
    ),
    "httpx": ("", "import httpx; return pa.array([httpx.get('http://x').text])", "LM011"),
    "urllib": (
        "import urllib.request",
        "return pa.array([urllib.request.urlopen('http://x').read()])",
        "LM011",
    ),
    "urllib.parse": ("import urllib.parse", "return pa.array([urllib.parse.quote('x')])", None),
    "boto3": ("import boto3", "s3 = boto3.client('s3'); return pa.array([s3.head_object(Key='x')])", "LM011"),
    "a client of the file": (
        "import boto3\nS3 = boto3.client('s3', region_name='x')",
        "return pa.array([S3.list()])",
        "LM011",
    ),
    "an address in bytes": ("import socket", "return pa.array([socket.inet_aton('1.2.3.4')])", None),
    "environ": ("import os", "return pa.array([os.environ['A']])", "LM011"),
    "environ imported": ("from os import environ", "return pa.array([environ.get('A')])", "LM011"),
    "environ in a constant": (
        "import os\nBUCKET = os.environ.get('B', '')",
        "return pa.array([BUCKET])",
        "LM011",
    ),
    "environ in a constant that no function uses": (
        "import os\nBUCKET = os.environ.get('B', '')",
        "return batch[0]",
        None,
    ),
    "open": ("", "return pa.array([open('x').read()])", "LM011"),
    "a file in a constant": (
        "import json\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
        "HOSTS = json.loads((HERE / 'x.json').read_text() if (HERE / 'x.json').exists() else '{}')",
        "return pa.array([HOSTS.get('a')])",
        "LM011",
    ),
    "a path opened": (
        "from pathlib import Path",
        "p = Path('x') / 'y'; return pa.array([p.open().read()])",
        "LM011",
    ),
    "a path looked at": ("from pathlib import Path", "return pa.array([Path('x').exists()])", "LM011"),
    "a path taken apart": ("from pathlib import Path", "return pa.array([Path('x/y').stem])", None),
    "a pure path": ("from pathlib import PurePath", "return pa.array([str(PurePath('x') / 'y')])", None),
    "os.path.exists": ("import os", "return pa.array([os.path.exists('x')])", "LM011"),
    "os.path.basename": ("import os.path", "return pa.array([os.path.basename('x/y')])", None),
    "an image in a row": (
        "import io\nimport numpy as np",
        "return pa.array([np.load(io.BytesIO(x)) for x in batch[0].to_pylist()])",
        None,
    ),
    "a sound in a row": (
        "import io, wave",
        "return pa.array([wave.open(io.BytesIO(b'x')).getnframes()])",
        None,
    ),
    "a sound in a file": ("import wave", "return pa.array([wave.open('x.wav').getnframes()])", "LM011"),
    "gzip in a row": (
        "import gzip",
        "return pa.array([gzip.decompress(x) for x in batch[0].to_pylist()])",
        None,
    ),
    "a table in a row": (
        "import pyarrow.parquet as pq",
        "return pq.read_table(pa.BufferReader(batch[0][0].as_py())).column(0)",
        None,
    ),
    "a table in a file": (
        "import pyarrow.parquet as pq",
        "return pq.read_table('x.parquet').column(0)",
        "LM011",
    ),
    "pandas and a file": ("", "import pandas as pd; return pa.array(pd.read_csv('x.csv')['a'])", "LM011"),
    "pandas and a text": (
        "import io",
        "import pandas as pd; return pa.array(pd.read_csv(io.StringIO('a'))['a'])",
        None,
    ),
    "an expression of a dataset": (
        "import pyarrow.dataset as ds",
        "return batch.filter(ds.field('gain') > 0)[0]",
        None,
    ),
    "a dataset": ("import lance", "return lance.dataset('x').to_table().column(0)", "LM011"),
    "a logger": (
        "import logging\nlogger = logging.getLogger(__name__)",
        "logger.info('rows: %s', len(batch)); return batch[0]",
        "LM011",
    ),
    "a method called info": ("", "return pa.array([x.info() for x in batch[0]])", None),
    "numpy's log": ("import numpy as np", "return pa.array(np.log(batch[0].to_numpy()))", None),
    "subprocess": ("import subprocess", "return pa.array([subprocess.check_output(['ffprobe'])])", "LM011"),
    "print shadowed in a comprehension": (
        "",
        "a = [print for print in 'ab']; print(a); return batch[0]",
        "LM011",
    ),
    # State.
    "a cache in a dict": (
        "CACHE = {}",
        "return pa.array([CACHE.setdefault(x, len(x)) for x in batch[0].to_pylist()])",
        "LM012",
    ),
    "a lookup in a dict": (
        "UNITS = {'ms': 1}",
        "return pa.array([UNITS.get(x) for x in batch[0].to_pylist()])",
        None,
    ),
    "a dict of its own": ("CACHE = {}", "CACHE = {}; CACHE['a'] = 1; return batch[0]", None),
    "shadowed in a comprehension": (
        "SEEN = []",
        "a = [SEEN for SEEN in ([],)]; SEEN.append(1); return batch[0]",
        "LM012",
    ),
    "changed in a comprehension": ("SEEN = []", "[SEEN.append(1) for SEEN in ([],)]; return batch[0]", None),
    "changed by a nested function": (
        "SEEN = []",
        "def g():\n        SEEN.append(1)\n    g(); return batch[0]",
        "LM012",
    ),
    "changed by a lambda": ("SEEN = []", "g = lambda x: SEEN.append(x); g(1); return batch[0]", "LM012"),
    "a nested function's own": (
        "",
        "seen = []\n    def g(x):\n        seen.append(x)\n    g(1); return batch[0]",
        None,
    ),
    "nonlocal": (
        "",
        "n = 0\n    def g():\n        nonlocal n\n        n += 1\n    g(); return batch[0]",
        None,
    ),
    "a counter": ("import itertools\nCOUNT = itertools.count()", "return pa.array([next(COUNT)])", "LM012"),
    "next of what is its own": ("", "return pa.array([next(iter(x)) for x in batch[0]])", None),
    "an attribute of the function": ("", "f.calls = 1; return batch[0]", "LM012"),
    "globals()": ("", "globals()['SEEN'] = 1; return batch[0]", "LM012"),
    "an item of the environment": ("import os", "os.environ['TZ'] = 'UTC'; return batch[0]", "LM011 LM012"),
    "pyarrow's add": ("import pyarrow.compute as pc", "return pc.add(batch[0], 1)", None),
    "numpy's append": ("import numpy as np", "return pa.array(np.append([1], [2]))", None),
    "a schema appended to": (
        "SCHEMA = pa.schema([('a', pa.int64())])",
        "s = SCHEMA.append(pa.field('b', pa.int64())); return batch[0]",
        None,
    ),
    "heapq": ("import heapq\nHEAP = []", "heapq.heappush(HEAP, 1); return batch[0]", "LM012"),
    "a pure cache": (
        "from functools import lru_cache\ndef slow(x):\n    return len(x)\n"
        "fast = lru_cache(maxsize=None)(slow)",
        "return pa.array([fast(x) for x in batch[0].to_pylist()])",
        None,
    ),
    "a cache of what is not pure": (
        "import time\nfrom functools import lru_cache\ndef slow(x):\n    return time.time()\n"
        "fast = lru_cache(slow)",
        "return pa.array([fast(x) for x in batch[0].to_pylist()])",
        "LM010",
    ),
    "a partial": (
        "import random\nfrom functools import partial\ndef pick(n):\n    return random.random()\n"
        "first = partial(pick, 1)",
        "return pa.array([first() for _ in batch[0]])",
        "LM010",
    ),
    "a lambda of the file": (
        "import random\npick = lambda: random.random()",
        "return pa.array([pick()])",
        "LM010",
    ),
    "a class of a library": (
        "from decimal import Decimal",
        "return pa.array([Decimal(x) for x in batch[0].to_pylist()])",
        None,
    ),
    "recursion": ("def g(n):\n    return g(n - 1) if n else 0", "return pa.array([g(3)])", None),
    "match": (
        "",
        "match len(batch):\n        case 0: return batch[0]\n"
        "        case print: print(1)\n    return batch[0]",
        None,
    ),
}


OPERATIONS = {
    # Rows that go, values that go.
    "deletes where 1=1": ('DeleteRows(table="rec", where="1=1")', "LM003"),
    "deletes where true": ('DeleteRows(table="rec", where=" TRUE ")', "LM003"),
    "deletes where nothing is said": ('DeleteRows(table="rec", where="")', "LM003"),
    "deletes where the key is": ('DeleteRows(table="rec", where="id IS NOT NULL")', "LM003"),
    "deletes where a required column is itself": ('DeleteRows(table="rec", where="id = id")', "LM003"),
    "deletes or true": ('DeleteRows(table="rec", where="gain < 0 OR 1 = 1 -- try")', "LM003"),
    "deletes true and true": ('DeleteRows(table="rec", where="(true) AND (2 > 1)")', "LM003"),
    "deletes not false": ('DeleteRows(table="rec", where="NOT (1 = 0)")', "LM003"),
    "deletes where a column is": ('DeleteRows(table="rec", where="gain IS NOT NULL")', None),
    "deletes where the key is not": ('DeleteRows(table="rec", where="id IS NULL")', None),
    "deletes between": ('DeleteRows(table="rec", where="gain BETWEEN 1 AND 1")', None),
    "deletes a case": ('DeleteRows(table="rec", where="CASE WHEN gain > 1 OR true THEN false END")', None),
    "deletes by a text": ('DeleteRows(table="rec", where="unit = \'1 = 1\'")', None),
    "deletes true and something": ('DeleteRows(table="rec", where="true AND gain < 0")', None),
    "fills nulls": ('UpdateRows(table="rec", set={"unit": "coalesce(unit, \'s\')"})', None),
    "sets all": ('UpdateRows(table="rec", set={"unit": "\'s\'"})', "LM004"),
    "sets all where the key is": (
        'UpdateRows(table="rec", set={"unit": "\'s\'"}, where="id is not null")', "LM004",
    ),
    "sets all of a new table": (
        'CreateTable(table="t", schema={"id": "int64", "n": "int64"}, key=("id",), rows=[{"id": 1}]), '
        'UpdateRows(table="t", set={"n": "id"})', None,
    ),
    "sets a field of a new struct": (
        'AddColumn(table="rec", column=pa.field("s", pa.struct([("a", pa.int64())]))), '
        'UpdateRows(table="rec", set={"s.a": "id"})', None,
    ),
    "drops what it has added": (
        'AddColumn(table="rec", column=pa.field("tmp", pa.int64())), '
        'DropColumn(table="rec", column="tmp")', None,
    ),
    "drops what it has renamed": (
        'RenameColumn(table="rec", column="unit", to="old"), '
        'DropColumn(table="rec", column="old")', "LM001",
    ),
    # Types.
    "narrows a number": ('RetypeColumn(table="rec", column="samples", to="int32")', "LM002"),
    "narrows a time": ('RetypeColumn(table="rec", column="at", to="timestamp[s]")', "LM002"),
    "narrows a field": ('RetypeColumn(table="rec", column="device.channels", to="int16")', "LM002"),
    "widens a field": ('RetypeColumn(table="rec", column="device.channels", to="int64")', None),
    "a time as a number": (
        'RetypeColumn(table="rec", column="at", to="int64", using="cast(at as bigint)")', "LM005",
    ),
    # Twice is not once.
    "doubles": ('UpdateRows(table="rec", set={"gain": "gain * 2"}, where="id > 1")', "LM007"),
    "turns a sign": ('UpdateRows(table="rec", set={"gain": "-gain"}, where="gain < 0")', None),
    "turns all signs": ('UpdateRows(table="rec", set={"gain": "-gain"}, where="id < 9")', "LM007"),
    "puts in front, once": (
        """UpdateRows(table="rec", set={"host": "concat('a/', host)"}, where="host NOT LIKE 'a/%'")""", None,
    ),
    "puts in front": (
        """UpdateRows(table="rec", set={"host": "'a/' || host"}, where="id > 1")""", "LM007",
    ),
    "of one value": (
        """UpdateRows(table="rec", set={"unit": "concat(unit, 's')"}, where="unit = 'm'")""", None,
    ),
    "replaces": (
        """UpdateRows(table="rec", set={"host": "replace(host, 'http:', 'https:')"}, where="id > 1")""", None,
    ),
    "replaces what comes again": (
        """UpdateRows(table="rec", set={"host": "replace(host, 'a/', 'a/b/')"}, where="id > 1")""", "LM007",
    ),
    "cleans by a pattern": (
        """UpdateRows(table="rec", set={"host": "regexp_replace(host, ' +$', '')"}, where="id > 1")""", None,
    ),
    "maps values": (
        """UpdateRows(table="rec",
        set={"unit": "CASE unit WHEN 'msec' THEN 'ms' WHEN 'sec' THEN 's' ELSE unit END"}, where="id > 1")""",
        None,
    ),
    "swaps values": (
        """UpdateRows(table="rec",
        set={"unit": "CASE WHEN unit = 'a' THEN 'b' WHEN unit = 'b' THEN 'a' ELSE unit END"},
        where="id > 1")""",
        "LM007",
    ),
    "swaps columns": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "host"}, where="id > 1")', "LM007 LM007",
    ),
    "moves a value": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "NULL"}, where="unit IS NOT NULL")', None,
    ),
    "loses a value it has moved": (
        'UpdateRows(table="rec", set={"host": "unit", "unit": "NULL"}, where="id > 1")', "LM007",
    ),
    "rounds": ('UpdateRows(table="rec", set={"gain": "round(gain, 2)"}, where="id > 1")', None),
    "clamps": ('UpdateRows(table="rec", set={"gain": "greatest(gain, -1.0)"}, where="id > 1")', None),
    "a column whose name has another's in it": (
        'UpdateRows(table="rec", set={"gain": "samples * 2"}, where="id > 1")', None,
    ),
    # Clocks in SQL.
    "now()": ('UpdateRows(table="rec", set={"at": "now()"}, where="id > 1")', "LM010"),
    "current_timestamp": (
        'AddColumn(table="rec", column="c: timestamp[us]", sql="current_timestamp")', "LM010",
    ),
    "random()": ('UpdateRows(table="rec", set={"gain": "random()"}, where="id > 1")', "LM010"),
    "uuid() in a condition": ('DeleteRows(table="rec", where="host = uuid()")', "LM010"),
    "now() in a comment": ('DeleteRows(table="rec", where="gain < 0 /* now() */")', None),
    "now() in a text": ("""DeleteRows(table="rec", where='host = "now()"')""", None),
    "a column called now": ('DeleteRows(table="rec", where="now < 0")', None),
    "a column called current_date": ('DeleteRows(table="rec", where="`current_date` < 0")', None),
    # Names.
    "a struct of a person": (
        'AddColumn(table="rec", column=pa.field("who", pa.struct([("firstName", pa.string())])))', "LM014",
    ),
    "a list of persons": (
        'AddColumn(table="rec", column=pa.field("who", pa.list_(pa.struct([("eMail", pa.string())]))))',
        "LM014",
    ),
    "a struct that is said to be": (
        'AddColumn(table="rec", column=pa.field("who", pa.struct([("email", pa.string())]), '
        'metadata={"sensitivity": "high"}))', None,
    ),
    "a flag": ('AddColumn(table="rec", column="email_verified: bool")', None),
    "a number of them": ('AddColumn(table="rec", column="patient_count: int64")', None),
    "an address of a machine": ('AddColumn(table="rec", column="mac_address: string")', None),
    "one name for another": (
        'CreateTable(table="p", schema={"id": "int64", "email": "string"}, key=("id",)), '
        'SetMetadata(table="p", column="email", metadata={"sensitivity": "high"})', None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(linted: Lint, name: str):
    operations, code = OPERATIONS[name]
    found = linted(f"operations = [{operations}]\n")
    assert [each.code for each in found] == (code or "").split(), [(e.line, e.message) for e in found]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(linted: Lint, name: str):
    above, body, code = FUNCTIONS[name]
    text = f"{above}\n\ndef f(batch: pa.RecordBatch) -> pa.Array:\n    {body}\n\noperations = [{BACKFILL}]\n"
    found = linted(text)
    assert sorted({each.code for each in found}) == (code or "").split(), [(e.line, e.message) for e in found]
    assert len(found) == len({(each.code, each.line) for each in found}), [(e.line, e.message) for e in found]


COLUMNS = """[
    pa.field("id", pa.int64(), nullable=False), ("host", pa.string()), ("gain", pa.float64()),
    ("samples", pa.int64()),
    ("at", pa.timestamp("us")), ("audio", pa.binary()), ("unit", pa.string()),
    ("device", pa.struct([("serial", pa.string()), ("channels", pa.int32())])),
]"""
TRANSFORM = 'TransformTable(table="rec", using=f, schema=pa.schema({}), reads=("id", "gain"))'
SAME = "def f(batch: pa.RecordBatch) -> pa.RecordBatch:\n    return batch\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('pa.field("id"', 'pa.field("id"', None),
        ('"samples", pa.int64()', '"samples", pa.int32()', "rec.samples becomes int32"),
        ('pa.timestamp("us")', 'pa.timestamp("s")', "rec.at becomes timestamp[s]"),
        ('"gain", pa.float64()', '"gain", pa.float32()', "rec.gain becomes float32"),
        ('"channels", pa.int32()', '"channels", pa.int8()', "rec.device.channels becomes int8"),
        ('"host", pa.string()', '"host", pa.large_string()', None),
        ('"samples", pa.int64()', '"samples", pa.string()', None),
    ],
)
@pytest.mark.parametrize("operation", [TRANSFORM, 'BuildTable(table="rec", rows=[], schema=pa.schema({}))'])
def test_a_table_that_is_written_anew_with_a_narrower_type_is_told(
    linted: Lint, operation: str, old: str, new: str, said: str | None
):
    schema = COLUMNS.replace(old, new)
    body = f"{SAME}operations = [{operation.format(schema)}]\ndowngrade = []\n"
    found = [each for each in linted(body) if each.code == "LM002"]
    assert [each.message.partition(",")[0] for each in found] == ([said] if said else [])


def test_a_field_of_a_struct_that_is_left_out_is_dropped(linted: Lint):
    schema = COLUMNS.replace('("serial", pa.string()), ', "")
    found = linted(f"{SAME}operations = [{TRANSFORM.format(schema)}]\ndowngrade = []\n")
    assert [(each.code, each.message.partition(":")[0]) for each in found] == [
        ("LM001", "rec is written anew without device.serial")
    ]


DOWNGRADES = {
    "drops what was added": (
        'AddColumn(table="rec", column="n: int64")', 'DropColumn(table="rec", column="n")', "",
    ),
    "drops a table that was made": (
        'CreateTable(table="t", schema={"id": "int64"}, key=("id",))', 'DropTable(table="t")', "",
    ),
    "drops what was there before": (
        'AddColumn(table="rec", column="n: int64")', 'DropColumn(table="rec", column="unit")', "LM001",
    ),
    "goes back to the type it was": (
        'RetypeColumn(table="rec", column="device.channels", to="int64")',
        'RetypeColumn(table="rec", column="device.channels", to="int32")', "",
    ),
    "goes back to less than it was": (
        'RetypeColumn(table="rec", column="device.channels", to="int64")',
        'RetypeColumn(table="rec", column="device.channels", to="int16")', "LM002",
    ),
    "deletes all": (
        """UpsertRows(table="rec", rows=[{"id": 1}], on=("id",))""",
        'DeleteRows(table="rec", where="true")', "LM003",
    ),
    "sets all": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""",
        'UpdateRows(table="rec", set={"unit": "NULL"})', "LM004",
    ),
    "is not idempotent": (
        """UpdateRows(table="rec", set={"gain": "gain * 2", "unit": "'s'"}, where="unit = 'm'")""",
        'UpdateRows(table="rec", set={"gain": "gain / 2"}, where="id > 1")', "LM007",
    ),
    "fills a column that it adds": (
        'RenameColumn(table="rec", column="unit", to="units")',
        'AddColumn(table="rec", column="unit: string"), '
        'UpdateRows(table="rec", set={"unit": "units"}), DropColumn(table="rec", column="units")', "",
    ),
    "asks the clock": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""",
        'UpdateRows(table="rec", set={"at": "now()"}, where="id > 1")', "LM010",
    ),
    "computes by what is not pure": (
        """UpdateRows(table="rec", set={"unit": "'s'"}, where="unit is null")""", BACKFILL, "LM011",
    ),
    "takes back a personal name": (
        'AddColumn(table="rec", column="n: int64")',
        'DropColumn(table="rec", column="n"), RenameColumn(table="rec", column="unit", to="email")', "",
    ),
    "loses an index that was made": (
        'CreateIndex(table="rec", column="unit", type="NGRAM")',
        'RetypeColumn(table="rec", column="unit", to="binary")', "",
    ),
    "loses an index that was there": (
        'AddColumn(table="rec", column="n: int64")',
        'RetypeColumn(table="rec", column="host", to="list<string>", using="[host]")', "LM002 LM008",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOWNGRADES)
def test_a_downgrade(linted: Lint, name: str):
    up, down, code = DOWNGRADES[name]
    above = "def f(batch: pa.RecordBatch) -> pa.Array:\n    print(batch)\n    return batch.column(0)\n"
    found = linted(f"{above}operations = [{up}]\ndowngrade = [\n    {down}\n]\n")
    assert [each.code for each in found] == code.split(), [(e.line, e.message) for e in found]


def test_a_finding_in_a_downgrade_is_at_its_line_and_can_be_ignored(linted: Lint):
    down = 'DeleteRows(table="rec", where="true"),'
    body = 'operations = [AddColumn(table="rec", column="n: int64")]\ndowngrade = [\n{}    {}\n]\n'
    [found] = linted(body.format("", down))
    assert found.line == 8
    assert linted(body.format("    # lancemig: ignore[LM003] all came with this revision\n", down)) == []
