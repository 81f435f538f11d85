"""``--map question=col,answer=col,…``: which columns of a file say what, and what a misspelt one is near to."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from residency.platform.errors import BadInputError, DataError

Columns = Mapping[str, tuple[str, ...]]


def parse_map(texts: Iterable[str], fields: Sequence[str]) -> Columns:
    """``question=Frage,image=a+b`` → {"question": ("Frage",), "image": ("a", "b")}; raises BadInputError else."""
    columns: dict[str, tuple[str, ...]] = {}
    for pair in (pair for text in texts for pair in text.split(",") if pair.strip()):
        name, mark, written = (part.strip() for part in pair.partition("="))
        names = tuple(part.strip() for part in written.split("+") if part.strip())
        if not mark or not names:
            raise BadInputError(f"--map {pair!r}", "FIELD=COLUMN, or FIELD=COLUMN+COLUMN", f"FIELD is {one_of(fields)}")
        if name not in fields:
            raise BadInputError(f"--map {pair!r}: no field {name!r}", one_of(fields), nearest(name, fields))
        if name in columns:
            raise BadInputError(f"--map names {name} twice", f"each field once; {name}=COLUMN+COLUMN for several")
        columns[name] = names
    return columns


def one_of(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean …?`` with the nearest of the known names, empty where none is near."""
    folded = {other.casefold(): other for other in known}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]!r}?" if close else ""


def check_columns(columns: Columns, present: Sequence[str], where: str) -> None:
    """Raise DataError where a mapped column is not in the file; the nearest one that is there is named."""
    for field, names in columns.items():
        for name in names:
            if name not in present:
                raise DataError(
                    f"{where} has no column {name!r} (--map {field}={name})",
                    one_of(present[:40]),
                    nearest(name, present) or "check --map",
                )


def with_defaults(columns: Columns, present: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> Columns:
    """The map, and for fields it leaves out the first column that is called so."""
    by_name = {name.casefold(): name for name in present}
    found = dict(columns)
    for field, names in aliases.items():
        fitting = [by_name[name] for name in names if name in by_name]
        if field not in found and fitting:
            found[field] = (fitting[0],)
    return found


def cells(row: Mapping[str, Any], columns: Columns, field: str) -> list[Any]:
    """What the row says for a field, column by column, without what is empty."""
    values = [row.get(name) for name in columns.get(field, ())]
    return [value for value in values if value is not None and value != ""]


def text_of(row: Mapping[str, Any], columns: Columns, field: str) -> str:
    """The field as one text, without outer blanks; several columns are joined by a line break."""
    return "\n".join(str(value).strip() for value in cells(row, columns, field)).strip()
