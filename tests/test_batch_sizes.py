"""Tables of briefs that would take much more memory than their bytes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.batch.briefs import read_briefs
from synopsis_writer.errors import InputError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def table(path: Path, columns: dict[str, Any], **options: Any) -> None:
    parquet.write_table(pyarrow.table(columns), path, compression="zstd", **options)


def one_long_cell(path: Path) -> None:
    table(path, {"show": ["AWZ"], "theme": ["x" * 50_000_000]})


def a_long_cell_repeated(path: Path) -> None:
    themes = pyarrow.DictionaryArray.from_arrays([0] * 100_000, ["x" * 900_000])
    table(path, {"show": ["AWZ"] * 100_000, "theme": themes})


def a_list_without_end(path: Path) -> None:
    beats = pyarrow.ListArray.from_arrays([0, 20_000_000], pyarrow.nulls(20_000_000, pyarrow.string()))
    table(path, {"show": ["AWZ"], "theme": ["x"], "beat": beats})


def a_list_of_long_cells(path: Path) -> None:
    cells = pyarrow.DictionaryArray.from_arrays([0] * 10_000, ["x" * 100_000])
    beats = pyarrow.ListArray.from_arrays([0, 10_000], cells)
    table(path, {"show": ["AWZ"], "theme": ["x"], "beat": beats})


def many_columns(path: Path) -> None:
    table(path, {f"c{number}": ["x"] for number in range(2_000)})


def wide_numbers(path: Path) -> None:
    table(path, {"show": ["AWZ"], "theme": pyarrow.array([b"x" * 2_000_000], pyarrow.binary(2_000_000))})


def a_struct(path: Path) -> None:
    table(path, {"show": ["AWZ"], "theme": [{"a": {"b": ["x"]}}]})


def a_large_group(path: Path) -> None:
    table(path, {"show": ["AWZ"] * 250, "theme": [f"{number:06}" * 150_000 for number in range(250)]})


def csv_columns(path: Path) -> None:
    path.write_text("show,theme," + ",".join(f"c{number}" for number in range(1_001)) + "\n", encoding="utf-8")


def csv_cells(path: Path) -> None:
    path.write_text("show,theme\nAWZ," + '"\n",' * 2_000_000, encoding="utf-8")


def csv_cell(path: Path) -> None:
    path.write_text('show,theme\nAWZ,"' + "x\n" * 2_000_000, encoding="utf-8")


def jsonl_line(path: Path) -> None:
    path.write_text('{"show": "' + "x" * 200_000_000 + '"}\n', encoding="utf-8")


def jsonl_names(path: Path) -> None:
    names = ", ".join(f'"c{number}": 1' for number in range(50_000))
    path.write_text("{" + names + "}\n", encoding="utf-8")


KINDS: list[tuple[Callable[[Path], None], str, str]] = [
    (one_long_cell, "parquet", "cell of over 1 MB"),
    (a_list_without_end, "parquet", "million values"),
    (a_list_of_long_cells, "parquet", "cell of over 1 MB"),
    (many_columns, "parquet", "2000 columns"),
    (wide_numbers, "parquet", "write text"),
    (a_struct, "parquet", "write text"),
    (a_large_group, "parquet", "write smaller groups"),
    (csv_columns, "csv", "has 1003 columns"),
    (csv_cells, "csv", "longer than 1 MB"),
    (csv_cell, "csv", "close each quote|longer than 1 MB"),
    (jsonl_line, "jsonl", "longer than 1 MB"),
    (jsonl_names, "jsonl", "50000 columns"),
]


@pytest.mark.parametrize(("make", "suffix", "reason"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_table_beyond_its_bounds_is_refused_in_a_short_line(
    tmp_path: Path, make: Callable[[Path], None], suffix: str, reason: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    make(path)
    with pytest.raises(InputError, match=reason) as error:
        list(read_briefs(path))
    assert len(str(error.value)) < 500


READ = """
import sys
from pathlib import Path
from synopsis_writer.batch.briefs import read_table
print(sum(1 for _ in read_table(Path(sys.argv[1]))))
print(int(Path("/proc/self/status").read_text("utf-8").partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow  # eight seconds: it makes 100,000 rows
@pytest.mark.parametrize("make", [a_long_cell_repeated])
def test_a_small_file_that_stands_for_gigabytes_is_read_in_little_memory(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "x.parquet"
    make(path)
    assert path.stat().st_size < 1_000_000
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, encoding="utf-8", check=True)
    rows, megabytes = map(int, done.stdout.split())
    assert rows == 100_000
    assert megabytes < 500
