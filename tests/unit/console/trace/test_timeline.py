"""Grouping records into lives: membership, order and outcome."""

from support.live.log_lines import NOON, parcel, table

from inboxd.console.log_reading.records import Record, from_fields
from inboxd.console.trace.timeline import FileLife, build_lives

P, Q, R = (parcel(number, NOON) for number in (1, 2, 3))


def record(event: str, after: float, **keys: object) -> Record:
    found = from_fields(table(event, NOON + after, **keys))
    assert found is not None
    return found


def events(life: FileLife) -> list[str]:
    return [step.event for step in life.steps]


def successful_life(file: str, parcel: str, begin: float = 0.0) -> list[Record]:
    return [
        record("file_claimed", begin, file=file, parcel=parcel, size=7, sha256="5" * 64),
        record("file_handled", begin + 1, file=file, parcel=parcel, attempt=1),
        record("file_done", begin + 1.5, file=file, parcel=parcel, filed=file),
    ]


def test_the_records_of_a_successful_file_are_one_life() -> None:
    (life,) = build_lives(reversed(successful_life("a", P)))

    assert events(life) == ["file_claimed", "file_handled", "file_done"]
    assert (life.inbox, life.file, life.parcels, life.outcome, life.seconds) == ("drop", "a", [P], "done", 1.5)
    assert (life.last_value("size"), life.last_value("sha256"), life.last_value("nothing")) == (7, "5" * 64, None)


def test_a_file_that_was_changed_has_the_values_of_its_last_version() -> None:
    claims = [record("file_claimed", begin, file="a", parcel=P, size=size) for begin, size in ((0.0, 7), (5.0, 9))]

    (life,) = build_lives([*claims, record("file_done", 6.0, file="a", parcel=P, filed="a")])

    assert life.last_value("size") == 9


def test_a_path_that_is_dropped_again_has_another_life() -> None:
    found = build_lives([*successful_life("a", P), *successful_life("a", Q, 10.0)])

    assert [life.parcels for life in found] == [[P], [Q]]
    assert [life.outcome for life in found] == ["done", "done"]


def test_two_files_of_one_name_in_flight_together_are_two_lives() -> None:
    found = build_lives([*successful_life("a", P), *successful_life("a", Q, 0.5)])

    assert [(life.parcels, events(life)) for life in found] == [
        ([P], ["file_claimed", "file_handled", "file_done"]),
        ([Q], ["file_claimed", "file_handled", "file_done"]),
    ]


def test_the_same_path_in_two_inboxes_is_two_files() -> None:
    other = record("file_claimed", 1.0, inbox="other", file="a", parcel=Q)

    found = build_lives([*successful_life("a", P), other])

    assert [(life.inbox, len(life.steps)) for life in found] == [("drop", 3), ("other", 1)]


def test_a_life_continues_in_the_new_parcel_after_a_split_even_if_clocks_differ() -> None:
    records = [
        record("file_claimed", 0.0, file="a", parcel=P),
        record("file_handled", 1.0, file="a", parcel=P, raised="bad"),
        record("parcel_split", 2.0, file="a", parcel=Q, out_of=P, why="bad"),
        record("file_handled", 1.9, file="a", parcel=Q, attempt=2),
        record("file_done", 4.0, file="a", parcel=Q, filed="a"),
    ]

    (life,) = build_lives(records)

    assert life.parcels == [P, Q]
    assert life.outcome == "done"


def test_a_life_continues_after_a_second_split() -> None:
    records = [
        record("file_claimed", 0.0, file="a", parcel=P),
        record("parcel_split", 1.0, file="a", parcel=Q, out_of=P),
        record("parcel_split", 2.0, file="a", parcel=R, out_of=Q),
        record("file_failed", 3.0, file="a", parcel=R, filed="a"),
    ]

    (life,) = build_lives(records)

    assert (life.parcels, life.outcome, life.seconds) == ([P, Q, R], "failed", 3.0)


def test_circular_splits_do_not_loop_forever() -> None:
    records = [
        record("parcel_split", 1.0, file="a", parcel=Q, out_of=P),
        record("parcel_split", 2.0, file="a", parcel=P, out_of=Q),
    ]

    assert sum(len(life.steps) for life in build_lives(records)) == 2


def test_records_of_a_parcel_belong_to_its_files_while_they_are_in_it() -> None:
    records = [
        *successful_life("b", P),
        record("file_claimed", 0.0, file="a", parcel=P),
        record("parcel_crashed", 0.5, parcel=P, crashes=1),
        record("parcel_split", 0.6, file="a", parcel=Q, out_of=P),
        record("parcel_republished", 0.7, parcel=Q),
        record("parcel_recovered", 5.0, parcel=P),
    ]

    by_name = {life.file: life for life in build_lives(records)}

    assert events(by_name["a"]) == ["file_claimed", "parcel_crashed", "parcel_split", "parcel_republished"]
    assert events(by_name["b"]) == ["file_claimed", "parcel_crashed", "file_handled", "file_done", "parcel_recovered"]


def test_a_claim_after_a_release_continues_the_life() -> None:
    records = [
        record("file_claimed", 0.0, file="a", parcel=P),
        record("file_released", 1.0, file="a", parcel=P, why="open"),
        *successful_life("a", Q, 5.0),
    ]

    (life,) = build_lives(records)

    assert (life.parcels, life.outcome, life.seconds) == ([P, Q], "done", 6.5)


def test_the_outcome_of_a_released_file_that_is_not_claimed_again_is_released() -> None:
    (life,) = build_lives([record("file_claimed", 0.0, file="a", parcel=P), record("file_released", 1.0, file="a", parcel=P)])

    assert (life.outcome, life.end) == ("released", None)


def test_a_denied_claim_belongs_to_the_life_of_the_claim_that_follows() -> None:
    (life,) = build_lives([record("file_denied", -5.0, file="a", error="no"), *successful_life("a", P)])

    assert events(life)[:2] == ["file_denied", "file_claimed"]


def test_a_file_that_was_only_denied_is_a_life_without_an_end() -> None:
    (life,) = build_lives([record("file_denied", 0.0, file="a", error="no")])

    assert (life.outcome, life.parcels) == (None, [])


def test_an_expiry_belongs_to_the_life_that_was_filed_at_the_path() -> None:
    first, second = successful_life("a", P), successful_life("a", Q, 10.0)
    second[-1] = record("file_done", 11.5, file="a", parcel=Q, filed="a (2)")

    found = build_lives([*first, *second, record("file_expired", 99.0, file="a (2)", why="old")])

    assert [events(life)[-1] for life in found] == ["file_done", "file_expired"]
    assert [(life.outcome, life.seconds) for life in found] == [("done", 1.5), ("done", 1.5)]


def test_a_parcel_without_known_files_is_a_life_without_a_file() -> None:
    (life,) = build_lives([record("parcel_crashed", 0.0, parcel=P, crashes=1)])

    assert (life.file, life.parcels, life.outcome) == (None, [P], None)


def test_a_life_has_only_the_steps_that_were_logged() -> None:
    (life,) = build_lives([record("file_failed", 0.0, file="a", parcel=P, filed="a")])

    assert (events(life), life.outcome, life.seconds) == (["file_failed"], "failed", 0.0)


def test_records_of_folders_and_of_libraries_are_not_steps() -> None:
    forged = {key: value for key, value in table("file_done", NOON, file="a", parcel=P).items() if key != "module"}
    library_record = from_fields(forged)
    assert library_record is not None

    assert build_lives([library_record, record("folder_pruned", 0.0, file="a")]) == []
