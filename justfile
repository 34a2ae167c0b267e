# Recipes for working on lancemig. `just` lists them; CONTRIBUTING.md says when to use which.
# Install what they need with: pip install -e '.[dev]'

set shell := ["bash", "-euo", "pipefail", "-c"]

# The quick tier: every test that needs no server, no process that dies, no document and little time. It takes
# less than 90 s on two cores.
quick := "not (docs or faults or machine or nightly or s3 or slow or surface)"

[private]
@default:
    just --justfile '{{ justfile() }}' --list --unsorted

# Run the quick tier, or all tests of some areas: just test cli test_config.py
test *AREAS:
    pytest -n auto {{ if AREAS == "" { "-m '" + quick + "'" } else { prepend("tests/", AREAS) } }}

# Run the tests that pin what Lance, LanceDB, DuckDB and S3 do
surface:
    pytest -n auto -m 'surface and not nightly'

# Run the tests of the documents and of the example
docs:
    pytest -n auto -m 'docs and not nightly'

# Check style, types and imports; change nothing
lint:
    ruff check
    ruff format --check
    mypy
    lint-imports

# Format the code and apply the safe fixes
format:
    ruff check --fix
    ruff format

# Run what every commit must pass, in a fresh virtual environment
all:
    .ci/run

# Run what takes hours: every death, a long search by the state machine, a campaign of kills
nightly:
    pytest -n auto -m nightly
    HYPOTHESIS_PROFILE=nightly pytest tests/machine/test_machine.py
    LANCEMIG_KILLS=200 pytest tests/faults/test_killed.py

# Show the coverage of the quick tier, with the lines that it does not run
coverage:
    pytest -n auto -m '{{ quick }}' --cov --cov-report=term-missing

# Write .ci/constraints.txt anew, with the newest versions that pyproject.toml allows; then run `just all`
constraints:
    #!/usr/bin/env bash
    set -euo pipefail
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check '.[dev]'
    {
        sed '/^#/!d' .ci/constraints.txt
        "$work/venv/bin/pip" freeze --disable-pip-version-check --exclude lancemig
    } > "$work/constraints.txt"
    cp "$work/constraints.txt" .ci/constraints.txt
