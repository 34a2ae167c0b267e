"""What an application declares: `models = package.module:name` of lancemig.ini is imported."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, NoReturn

from pydantic import ValidationError

from lancemig.errors import ConfigError
from lancemig.script.wording import did_you_mean


def declared(models: str, folder: Path) -> Mapping[str, Any]:
    """The mapping that `models` names, from the name of a table to what it looks like.

    Modules are found as the application finds them, and in `folder`, which goes before. ConfigError names
    the module, the line of a file that raises, or the attribute that is missing or no mapping.
    """
    name, _, attribute = models.partition(":")
    found: Any = _module(models, name, folder)
    for part in attribute.split("."):
        if not hasattr(found, part):
            meant = did_you_mean(part, vars(found))
            _refuse(models, f"{_file(found)} has no {part}{meant}")
        found = getattr(found, part)
    if not isinstance(found, Mapping):
        _refuse(
            models, f"{attribute} must be a mapping from table names to models, not a {type(found).__name__}"
        )
    for table in found:
        if not isinstance(table, str):
            _refuse(models, f"a table name must be text, not {table!r}")
    return found


def file_of(models: str) -> Path | None:
    """The file of the module that `models` names, once it is imported; None where it has none."""
    found = sys.modules[models.partition(":")[0]].__file__
    return Path(found) if found else None


def _module(models: str, name: str, folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            _refuse(models, f"module {error.name} is neither in {folder} nor installed", error)
        _refuse(models, f"{_line(error, name)}: {error}", error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the application's module raises
        _refuse(models, f"{_line(error, name)}: {type(error).__name__}: {said(error)}", error)
    finally:
        # What the models import later, from within functions, is found as well.
        sys.path.remove(str(folder))
        sys.path.append(str(folder))


def said(error: BaseException) -> str:
    """What an error says; of a value that pydantic refuses, the first thing that is wrong with it."""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        text = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        return f"{place}: {text}" if place else text
    return str(error)


def _line(error: BaseException, name: str) -> str:
    """The last line of the application that led to an error: that of its own syntax, or one that it ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames[2:] if "importlib" not in frame.filename]
    ours = str(Path(__file__).parent.parent)
    known = [f for f in own if "site-packages" not in f.filename and not f.filename.startswith(ours)] or own
    return f"{known[-1].filename}:{known[-1].lineno}" if known else name


def _file(found: Any) -> str:
    return str(getattr(found, "__file__", None) or getattr(found, "__name__", found))


def _refuse(models: str, said: str, error: BaseException | None = None) -> NoReturn:
    raise ConfigError(
        f"models = {models}: {said}",
        next_step="fix it, or fix `models` in lancemig.ini, then run the same command again",
    ) from error
