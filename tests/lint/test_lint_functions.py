"""Row functions as people write them, each with the codes that `lint` gives it."""

from pathlib import Path

import pytest
from reviewed import BACKFILL, linted

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
    "a zone that is not given": (
        "from datetime import datetime",
        "return pa.array([datetime.fromisoformat('2026-01-01').astimezone().hour])",
        "LM010",
    ),
    # Chance.
    "imported by name": (
        "import importlib",
        "return pa.array([importlib.import_module('random').random()])",
        "LM010",
    ),
    "a sample": ("", "return pa.array(batch.to_pandas().sample(frac=1)['gain'])", "LM010"),
    "a sample with a seed": (
        "",
        "return pa.array(batch.to_pandas().sample(n=1, random_state=7)['gain'])",
        None,
    ),
    "the machine's address": ("import uuid", "return pa.array([uuid.getnode()])", "LM010"),
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
    "handed over": (
        "import requests",
        "return pa.array(list(map(requests.get, batch[0].to_pylist())))",
        "LM011",
    ),
    "an exception that is caught": (
        "import requests",
        "try: return batch[0]\n    except requests.RequestException: return batch[0]",
        None,
    ),
    "a model of the file": (
        "def read(name):\n    return open(name)\nMODEL = None if True else read('x')",
        "return pa.array([MODEL])",
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
    # Rows of one batch, compared with each other.
    "drop_duplicates": ("", "return pa.array(batch.to_pandas().drop_duplicates('gain').iloc[:, 0])", "LM021"),
    "groupby of pandas": ("", "return pa.array(batch.to_pandas().groupby('gain').size())", "LM021"),
    "group_by of Arrow": (
        "",
        "return pa.Table.from_batches([batch]).group_by('gain').aggregate([]).column(0)",
        "LM021",
    ),
    "unique of polars": (
        "",
        "import polars as pl; return pl.from_arrow(batch).unique(subset=['gain']).to_arrow()",
        "LM021",
    ),
    "distinct in SQL": (
        "import duckdb",
        "return duckdb.sql('select DISTINCT gain from batch').arrow().column(0)",
        "LM021",
    ),
    "itertools.groupby": (
        "from itertools import groupby",
        "return pa.array([key for key, _ in groupby(batch[0].to_pylist())])",
        "LM021",
    ),
    "numpy's first of each": (
        "import numpy as np",
        "return batch[0].take(np.unique(batch[0].to_numpy(), return_index=True)[1])",
        "LM021",
    ),
    "a set of the values": ("", "return pa.array(sorted(set(batch[0].to_pylist())))", "LM021"),
    "a dict of the values": ("", "return pa.array(list(dict.fromkeys(batch[0].to_pylist())))", "LM021"),
    "a dict by key": (
        "",
        "return pa.array(list({row['gain']: row for row in batch.to_pylist()}.values()))",
        "LM021",
    ),
    "seen": (
        "",
        "seen, kept = set(), []\n    seen = set()\n    for x in batch[0].to_pylist():\n"
        "        if x in seen:\n            continue\n        seen.add(x)\n        kept.append(x)\n"
        "    return pa.array(kept)",
        "LM021",
    ),
    "a dict that is filled": (
        "",
        "rows = {}\n    for row in batch.to_pylist():\n        rows[row['gain']] = row\n"
        "    return pa.array(list(rows.values()))",
        "LM021",
    ),
    "the items of each row": (
        "",
        "kept = []\n    for tags in batch[0].to_pylist():\n        seen = set()\n"
        "        for tag in tags:\n            if tag not in seen:\n                seen.add(tag)\n"
        "        kept.append(sorted(seen))\n    return pa.array(kept)",
        None,
    ),
    "a set of each row's items": (
        "",
        "return pa.array([sorted(set(tags)) for tags in batch[0].to_pylist()])",
        None,
    ),
    "values that are allowed": (
        "",
        "allowed = {1, 2}\n    assert set(batch[0].to_pylist()) <= allowed\n    return batch[0]",
        None,
    ),
    "a memo": (
        "",
        "memo = {}\n    for x in batch[0].to_pylist():\n        if x not in memo:\n"
        "            memo[x] = x * 2\n    return pa.array([memo[x] for x in batch[0].to_pylist()])",
        None,
    ),
    "distinct values that are computed once": (
        "import pyarrow.compute as pc",
        "codes = batch[0].dictionary_encode()\n    return codes.dictionary.take(codes.indices)",
        None,
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
    "a long sum": (f"TEXT = {' + '.join(['str()'] * 300)}", "return pa.array([TEXT])", None),
    "recursion": ("def g(n):\n    return g(n - 1) if n else 0", "return pa.array([g(3)])", None),
    "match": (
        "",
        "match len(batch):\n        case 0: return batch[0]\n"
        "        case print: print(1)\n    return batch[0]",
        None,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(tmp_path: Path, name: str):
    above, body, code = FUNCTIONS[name]
    text = f"{above}\n\ndef f(batch: pa.RecordBatch) -> pa.Array:\n    {body}\n\noperations = [{BACKFILL}]\n"
    found = linted(tmp_path, text)
    assert sorted({each.code for each in found}) == (code or "").split(), [(e.line, e.message) for e in found]
    assert len(found) == len({(each.code, each.line) for each in found}), [(e.line, e.message) for e in found]


def test_a_function_that_is_called_whenever_the_file_is_loaded(tmp_path: Path):
    above = "import time\n\ndef stamp():\n    return str(time.time())\n\n"
    operation = 'UpdateRows(table="rec", set={"unit": stamp()}, where="id > 1")'
    [found] = linted(tmp_path, f"{above}operations = [{operation}]\n")
    assert (found.code, found.line) == ("LM010", 9)
    assert found.message == "stamp() reads the clock: time.time()"


def test_a_function_that_asks_for_rows_and_for_a_constant_is_told_once(tmp_path: Path):
    above = "import time\n\ndef f(batch=None):\n    return str(time.time())\n\nNOW = f()\n"
    found = linted(tmp_path, f"{above}operations = [{BACKFILL}]\n")
    assert [(each.code, each.line) for each in found] == [("LM010", 9)]
