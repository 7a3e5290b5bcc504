"""Tables of ratings in files: read where it is certain what they say, else refused with what would say it."""

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

PARQUET = (".parquet", ".pq", ".parq")
JSON_LINES = (".jsonl", ".ndjson")
SEPARATORS = ("::", "\t", ";", ",", "|", " ")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
LINES = 50
"""How many lines tell the separator."""

REST = "jaxmf.rest"
"""The column of what rows have after the header's last."""


class File(NamedTuple):
    """A file of a table, and how it is written where that is not certain of itself.

    Attributes:
        path: Where it is: Parquet or JSON lines by their endings, else text with a row a line.
        sep: What stands between columns; else found in the first lines.
        encoding: Of its letters; else UTF-8, or what a byte order mark says.
        names: The columns' names, where the first line is a row and no header.
        decimal: What stands before decimals; else a point, or a comma where that is certain.
        comment: What lines begin with that are none of the table; else `#` or `%` before the header.
    """

    path: str | Path
    sep: str | None = None
    encoding: str | None = None
    names: list[str] | None = None
    decimal: str | None = None
    comment: str | None = None


def read_table(file: File, ids: list[str], numbers: list[str]) -> pd.DataFrame:
    """The table in a file; ids are whole numbers where all are written as such, else text, and never missing words.

    Args:
        file: The file.
        ids: Columns of ids.
        numbers: Columns of numbers.

    Raises:
        ValueError: If there is no such file, or it isn't certain what it says.
        ImportError: If it is of Parquet and PyArrow is not installed.
    """
    path = Path(file.path)
    if not path.is_file():
        raise ValueError(f"no file {path}: give the path of a CSV or Parquet file, or the folder of a known data set")
    if path.suffix.lower() in PARQUET:
        try:
            return pd.read_parquet(path)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} can't be read as Parquet ({error}): write it anew, or rename it") from error
    text = _text(path, file.encoding)
    if path.suffix.lower() in JSON_LINES:
        return _json_lines(path, text)
    comment = file.comment or next((mark for mark in "#%" if text.startswith(mark)), None)
    if comment is not None:
        text = re.sub(rf"(?m)^{re.escape(comment)}.*(?:\n|\Z)", "", text)
    if not text.strip():
        raise ValueError(f"{path} has no rows: a model needs at least one rating")
    return _delimited(file, text, ids, numbers)


def _text(path: Path, encoding: str | None) -> str:
    data = path.read_bytes() if path.suffix not in (".gz", ".bz2", ".xz", ".zip") else _unpacked(path)
    marked = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(encoding or marked or "utf-8")
    except (UnicodeError, LookupError) as error:
        if encoding or marked:
            raise ValueError(
                f"{path} is not {encoding or marked} ({error}): say the encoding, such as "
                'File(path, encoding="latin-1")'
            ) from error
        text = data.decode(errors="replace")  # columns that are not needed may be of any encoding
    if "\0" in text:
        raise ValueError(
            f'{path} is no text of its encoding: say the encoding, such as File(path, encoding="utf-16-le")'
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unpacked(path: Path) -> bytes:
    import bz2
    import gzip
    import lzma
    import zipfile

    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as packed:
                (name,) = packed.namelist()
                return packed.read(name)
        return {".gz": gzip, ".bz2": bz2, ".xz": lzma}[path.suffix].open(path).read()
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ValueError(f"{path} can't be unpacked to one file ({error}): unpack it first") from error


def _json_lines(path: Path, text: str) -> pd.DataFrame:
    rows = []
    for at, line in enumerate(text.split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise ValueError(f"{path}, line {at}: {line[:80]!r} is no JSON ({error})") from error
        if isinstance(row, dict):
            rows.append(row)
        elif row is not None or line.strip():
            raise ValueError(f"{path}, line {at}: {line[:80]!r} is no JSON object of columns")
    return pd.DataFrame(rows)


def _delimited(file: File, text: str, ids: list[str], numbers: list[str]) -> pd.DataFrame:
    lines = [line for line in text[: 2**16].split("\n")[: LINES + 1] if line.strip()][:LINES]
    sep = _separator(file, lines)
    header = [name.strip() for name in _fields(lines[0], sep)] if file.names is None else list(file.names)
    wanted = {*ids, *numbers}
    if not wanted <= {*header} or len({*header}) < len(header):
        raise ValueError(
            f"{file.path} needs the columns {sorted(wanted)}, each once, and its first line is {lines[0][:200]!r}: "
            "name them with user=, item=, rating=, and where that is no header with File(path, names=[…]); or say sep="
        )
    if len(sep) > 1:
        text, sep = text.replace(sep, "\x1f"), "\x1f"
    names = [name or f"column {at}" for at, name in enumerate(header)]
    if file.names is None:
        text = text.lstrip("\n").partition("\n")[2]
    table = _parsed(file, text, [*names, REST], sep, ids)
    if bool(table[REST].notna().any()):
        row = int(table[REST].notna().to_numpy().argmax())
        raise ValueError(
            f"{file.path}, row {row}: there are more values than the {len(names)} columns of {lines[0][:200]!r}: "
            "name all columns with File(path, names=[…]), or say sep="
        )
    table = table.drop(columns=REST)
    again = np.logical_and.reduce([table[name].astype(object) == name for name in wanted])
    table = table[~again].reset_index(drop=True)
    if not len(table):
        raise ValueError(
            f"{file.path} has the header {lines[0][:200]!r} and no rows: a model needs at least one rating"
        )
    for name in ids:
        if any("\ufffd" in str(one) for one in set(table[name])):
            raise ValueError(
                f'{file.path} is not UTF-8 in column {name!r}: say the encoding, such as File(path, encoding="latin-1")'
            )
    columns = {name: _ids(table[name]) for name in ids} | {name: _number(file, table[name]) for name in numbers}
    return table.assign(**columns)


def _parsed(file: File, text: str, names: list[str], sep: str, ids: list[str]) -> pd.DataFrame:
    """All columns, those of ids as text in which only what is empty is missing."""
    missing = {name: [""] if name in ids else ["", "NA", "NaN", "nan", "null", "NULL", "None"] for name in names}
    try:
        return pd.read_csv(
            io.BytesIO(text.encode()),
            sep=sep,
            names=names,
            header=None,
            index_col=False,
            dtype=dict.fromkeys(ids, str),
            keep_default_na=False,
            na_values=missing,
            skipinitialspace=sep != "\t",
            decimal=file.decimal or ".",
            low_memory=False,
            encoding="utf-8",
        )
    except (ValueError, TypeError) as error:
        first = text.partition("\n")[0][:200]
        raise ValueError(
            f"{file.path} can't be read as columns between {sep!r} ({error}); its first row is {first!r}: say "
            "File(path, sep=…, names=[…])"
        ) from error


def _separator(file: File, lines: list[str]) -> str:
    """What was said, or what cuts every line in as many fields as the first, three or more."""
    if file.sep is not None:
        return file.sep
    found = {}
    for sep in SEPARATORS:
        rows = [_fields(line, sep) for line in lines]
        n = len(rows[0])
        if n >= 3 and all(len(row) == n or (len(row) == n + 1 and not row[-1].strip()) for row in rows):
            found[sep] = n
    best = [sep for sep in found if found[sep] == max(found.values())]
    if len(best) == 2 and " " in best:
        best.remove(" ")
    if len(best) != 1:
        raise ValueError(
            f"{file.path}: it isn't certain what stands between columns; its first line is {lines[0][:200]!r}: say "
            "File(path, sep=…)"
        )
    return best[0]


def _fields(line: str, sep: str) -> list[str]:
    if len(sep) > 1:
        return line.split(sep)
    return next(csv.reader([line], delimiter=sep, skipinitialspace=sep != "\t"), [])


def _ids(column: pd.Series) -> pd.Series:
    """Text, or whole numbers where each is written as a whole number is."""
    texts = column.astype("category")
    names = [str(name) for name in texts.cat.categories]
    if names and not texts.isna().any() and all(re.fullmatch(r"0|-?[1-9]\d*", name) for name in names):
        names = [int(name) for name in names]
    kept = pd.Series(names).reindex(texts.cat.codes).reset_index(drop=True)
    return kept if not texts.isna().any() else kept.astype(object).where(texts.notna().to_numpy(), None)


def _number(file: File, column: pd.Series) -> pd.Series:
    """Numbers, with decimal commas where that is certain; else text as it is, which `from_frame` refuses."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    texts = column.astype(object).map(lambda value: value if pd.isna(value) else str(value).strip())
    if texts.str.fullmatch(r"[+-]?\d+(,\d+)?", na=True).all():
        decimals = texts.str.extract(r",(\d+)")[0].dropna().str.len()
        if (decimals == 3).all() and file.decimal != ",":
            raise ValueError(
                f"{file.path}: {column.name} such as {texts[decimals.index[0]]!r} may be thousands or decimals: say "
                'File(path, decimal=",")'
            )
        texts = texts.str.replace(",", ".")
    try:
        return pd.Series(pd.to_numeric(texts), index=texts.index)
    except ValueError:
        return texts
