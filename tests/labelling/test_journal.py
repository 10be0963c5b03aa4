"""The journal: on disk before it is acknowledged, append-only, shared by processes; undo and redo by replay."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.errors import ConfigError, DataError
from cytolora.labelling.journal import Draft, Entry, Journal
from cytolora.labelling.votes import Votes


def _draft(reader: str = "ann", client_id: str = "1", cells: tuple[int, ...] = (3,), value: str = "HSIL") -> Draft:
    return Draft(reader=reader, kind="label", client_id=client_id, how="key", value=value, cells=cells)


def _append(journal: Journal, draft: Draft, after: int = 0) -> tuple[Entry, list[Entry]]:
    return journal.append(lambda new: draft, after=after, time="now", again=(draft.reader, draft.client_id))


def test_what_was_appended_is_read_by_another_opening(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    entry, _ = _append(journal, _draft())
    other = Journal(tmp_path / "j")  # the first is not closed, as after a kill
    assert other.entries() == [entry]
    assert other.entries(entry.number) == []


def test_a_repeated_request_is_one_entry(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    first, _ = _append(journal, _draft())
    again, _ = _append(journal, _draft(value="LSIL"), after=first.number)
    assert again == first
    assert len(journal.entries()) == 1


def test_two_openings_take_turns_and_each_sees_what_the_other_stored(tmp_path: Path) -> None:
    one, other = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    _append(one, _draft(client_id="a"))
    entry, new = _append(other, _draft(reader="bob", client_id="b"))
    assert [each.reader for each in new] == ["ann"]
    assert [each.number for each in one.entries()] == [1, 2] == [new[0].number, entry.number]


def test_a_full_disk_leaves_the_journal_as_it_was_and_says_so_in_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    stored, _ = _append(journal, _draft())
    pages = journal._open.execute("PRAGMA page_count").fetchone()[0]
    journal._open.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DataError, match=r"not stored: .* is full. Free space on its disk and try again") as caught:
        _append(journal, _draft(client_id="2", cells=tuple(range(9000))))
    assert "\n" not in str(caught.value)
    assert journal.entries() == [stored]
    journal._open.execute("PRAGMA max_page_count=100000")
    assert _append(journal, _draft(client_id="2"))[0].number == 2


@pytest.mark.parametrize("change", ["UPDATE entries SET value = 'x'", "DELETE FROM entries"])
def test_no_entry_can_be_changed_or_removed(tmp_path: Path, change: str) -> None:
    journal = Journal(tmp_path / "j")
    _append(journal, _draft())
    with pytest.raises(sqlite3.DatabaseError, match="append only"):
        journal._open.execute(change)


def test_another_file_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(DataError, match="damaged or no journal"):
        Journal(tmp_path / "j")


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["label", "undo", "redo"]),
        st.sampled_from(["HSIL", "LSIL"]),
        st.sets(st.integers(0, 3), min_size=1).map(tuple),
    ),
    max_size=25,
)


def _entry(number: int, reader: str, kind: str, value: str, cells: tuple[int, ...], target: int | None) -> Entry:
    return Entry(
        number=number,
        time="",
        client_id=str(number),
        reader=reader,
        kind=kind,  # pyright: ignore[reportArgumentType]
        how="key",
        value=value,
        cells=cells,
        target=target,
    )


@given(steps=_STEPS)
def test_undo_and_redo_are_those_of_a_stack_of_each_reader(steps: list) -> None:
    """Against a plain model: the labels of a reader are what her stack of done entries says, the last one wins."""
    votes, done, undone = Votes(), {"ann": [], "bob": []}, {"ann": [], "bob": []}
    for number, (reader, kind, value, cells) in enumerate(steps, start=1):
        target = None
        if kind == "label":
            done[reader].append((number, value, cells))
            undone[reader].clear()
        else:
            source, to = (done, undone) if kind == "undo" else (undone, done)
            if not source[reader]:
                with pytest.raises(ConfigError):
                    (votes.to_undo if kind == "undo" else votes.to_redo)(reader)
                continue
            target = (votes.to_undo if kind == "undo" else votes.to_redo)(reader).number
            assert target == source[reader][-1][0]
            to[reader].append(source[reader].pop())
        votes.apply(_entry(number, reader, kind, value, () if target else cells, target))
        for who in ("ann", "bob"):
            for cell in range(4):
                expected = [value for _, value, held in done[who] if cell in held]
                assert votes.of_reader(who, cell) == (expected[-1] if expected else None)


def test_agreed_is_the_adjudicated_label_else_that_of_most_readers() -> None:
    votes = Votes([_entry(1, "ann", "label", "HSIL", (0, 1), None), _entry(2, "bob", "label", "LSIL", (0,), None)])
    assert (votes.agreed(0), votes.agreed(1), votes.agreed(2)) == (None, "HSIL", None)
    votes.apply(_entry(3, "eve", "label", "LSIL", (0,), None))
    assert votes.agreed(0) == "LSIL"
    votes.apply(
        Entry(
            number=4, time="", client_id="4", reader="eve", kind="label", how="adjudication", value="HSIL", cells=(0,)
        )
    )
    assert votes.agreed(0) == "HSIL"
    assert votes.disagreements() == [0]
