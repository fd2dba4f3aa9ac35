"""The life of a file: the table in the code, and the same table in the papers."""

import itertools
from pathlib import Path

import pytest

from inboxd.spool.lifecycle import TRANSITIONS, Event, State, step

PAPER = Path(__file__).parents[2] / "docs" / "architecture.md"
HEADING = "## The life of a file"
END = (State.EXPIRED,)


def rows_on_paper() -> list[list[str]]:
    section = PAPER.read_text("utf-8").split(f"\n{HEADING}\n")[1].split("\n## ")[0]
    table = section.split("| State | Event | next State |\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[1:]]


def test_the_papers_and_the_code_have_the_same_table() -> None:
    rows = rows_on_paper()

    on_paper = {(State(state), Event(event)): State(then) for state, event, then in rows}

    assert on_paper == TRANSITIONS
    assert len(on_paper) == len(rows)


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_each_pair_of_the_table_leads_to_its_state(state: State, event: Event) -> None:
    assert step(state, event) is TRANSITIONS[state, event]


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(itertools.product(State, Event)) - TRANSITIONS.keys(), key=str), ids=str
)
def test_every_other_pair_is_refused(state: State, event: Event) -> None:
    with pytest.raises(ValueError, match=f"a file that is {state} can't {event}"):
        step(state, event)


def test_every_state_can_be_reached_from_a_drop() -> None:
    reached = {State.DROPPED}

    for _ in State:
        reached |= {then for (state, _), then in TRANSITIONS.items() if state in reached}

    assert reached == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - set(END)), ids=str)
def test_no_state_but_the_last_is_a_dead_end(state: State) -> None:
    assert [event for at, event in TRANSITIONS if at is state]


def test_every_event_is_of_some_use() -> None:
    assert {event for _, event in TRANSITIONS} == set(Event)
