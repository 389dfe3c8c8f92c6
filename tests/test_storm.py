import asyncio
from pathlib import Path

from tests.support.storm import BAD_ANSWERS, FAULTS, GOOD_ANSWERS, KEY, OUTAGE, REFUSALS, SHARE, script, storm

WRITES = 40


def test_in_a_storm_every_brief_is_saved_once_or_reported_and_no_file_holds_the_key(tmp_path: Path) -> None:
    tally = asyncio.run(storm(WRITES, tmp_path))
    assert set(tally.saved.values()) == {1}
    assert set(tally.saved) | set(tally.reported) == set(range(WRITES))
    assert not set(tally.saved) & set(tally.reported)
    assert all(tally.reported.values())
    assert sum(tally.logged.values()) == WRITES + tally.postponed
    assert tally.logged["accepted"] == len(tally.saved)
    assert tally.postponed > 0
    assert tally.faults >= SHARE * tally.calls * 0.6
    assert tally.calls - WRITES <= tally.faults * 1.05
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert all(KEY not in line for line in tally.messages)
    assert tally.messages


def test_a_storm_has_all_kinds_of_faults_and_answers() -> None:
    tables = (FAULTS, REFUSALS, BAD_ANSWERS, GOOD_ANSWERS)
    kinds = [OUTAGE, *(step for table in tables for step in table.values())]
    assert {str(step) for step in script(1000, 1)} == {str(step) for step in kinds}
