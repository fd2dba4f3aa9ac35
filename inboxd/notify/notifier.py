"""Tell people what has happened: look at the inboxes, find what is news for each recipient, send it, and record that."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from inboxd.config.rules import Inbox
from inboxd.config.settings import Settings
from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.notify import digest
from inboxd.notify.addresses import Addresses, kinds_of, labels, read_addresses, url_id
from inboxd.notify.conditions import Condition, Conditions
from inboxd.notify.digest import FAILED, Facts, Failure, News
from inboxd.notify.failed_notes import FailedNotes
from inboxd.notify.messages import Message, files_of, write_message
from inboxd.notify.state import Mark, NotifyState, Recipient, load_state, save_state

LOOK_INTERVAL_FACTOR = 20.0
"""Minimum interval between two looks at a failed/, as a multiple of their duration: a twentieth of the time at most."""
CLOCK_SET_BACK_SECONDS = 1.0

_log = get_logger(__name__)


@dataclass(slots=True)
class _Failures:
    """The failures of one inbox, when its failed/ is looked at again (monotonic seconds), and why it can't be read, or ""."""

    notes: FailedNotes
    look_at: float = 0.0
    problem: str = ""


@dataclass(slots=True)
class Clocks:
    """The clock in unix seconds, and the monotonic one."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class _Memory:
    """What a restart may forget: since when news wait, the failures, the difference of the clocks, what was logged."""

    news_since: dict[str, float] = field(default_factory=dict)
    failures: dict[str, _Failures] = field(default_factory=dict)
    offset: float | None = None
    save_error: str = ""


class Notifier:
    """One turn after the other, from one thread."""

    def __init__(
        self, disk: Disk, conditions: Conditions, send: Callable[[str, Message], str], environment: Mapping[str, str],
        clocks: Clocks | None = None,
    ) -> None:  # fmt: skip
        """Send with ``send``, which gets a URL and a message and returns "" or an error."""
        self._disk = disk
        self._conditions = conditions
        self._send = send
        self._environment = environment
        self._clocks = clocks or Clocks()
        self._state: NotifyState | None = None
        self._memory = _Memory()

    def take_turn(self, settings: Settings) -> None:
        """Look at all inboxes, and send what is due."""
        before = self._state or self._load(settings)
        addresses = read_addresses(settings, self._environment)
        state = self._fit(before, addresses)
        conditions = self._conditions.look(settings, addresses.by_inbox)
        self._look_at_failures(settings, addresses, state)
        state = replace(state, problems=self._list_problems(addresses))
        self._keep(settings, state, is_changed=state != before)
        for url in sorted(addresses.urls, key=lambda url: state.recipients[url_id(url)].tries):
            self._tell(settings, url, addresses, conditions)

    def _load(self, settings: Settings) -> NotifyState:
        try:
            return load_state(self._disk, settings.state_dir) or NotifyState()
        except (OSError, ValueError) as error:
            remedy = "none is needed: failures of the last hour are told, perhaps again"
            _log.warning(events.NOTIFIER_STATE_LOST, error=str(error), remedy=remedy)
            return NotifyState()

    def _fit(self, state: NotifyState, addresses: Addresses) -> NotifyState:
        """Return the state with exactly the recipients and inboxes of the settings, and with marks that fit the clock."""
        now, mono = self._clocks.wall(), self._clocks.monotonic()
        offset = now - mono
        lost = self._memory.offset - offset if self._memory.offset is not None else 0.0
        self._memory.offset = offset
        fitted: dict[str, Recipient] = {}
        for url, text in labels(addresses.urls).items():
            known = state.recipients.get(url_id(url)) or Recipient(text)
            known = digest.set_back(known, lost) if lost > CLOCK_SET_BACK_SECONDS else known
            marks = {
                name: digest.corrected_mark(known.marks.get(name) or digest.first_mark(now), now)
                for name, urls in addresses.by_inbox.items()
                if url in urls
            }
            fitted[url_id(url)] = replace(known, label=text, marks=marks)
        return NotifyState(fitted, state.problems)

    def _look_at_failures(self, settings: Settings, addresses: Addresses, state: NotifyState) -> None:
        known = self._memory.failures
        for name in known.keys() - addresses.by_inbox.keys():
            del known[name]
        for name in addresses.by_inbox:
            since = min(recipient.marks[name].failed_ns for recipient in state.recipients.values() if name in recipient.marks)
            if name not in known or since < known[name].notes.since_ns:
                notes = FailedNotes(self._disk, settings.inbox[name], since, self._clocks.monotonic)
                known[name] = _Failures(notes)
            self._look(settings.inbox[name], known[name])

    def _look(self, inbox: Inbox, failures: _Failures) -> None:
        started = self._clocks.monotonic()
        if started < failures.look_at:
            return
        try:
            failures.notes.look()
            failures.problem = ""
        except (FolderUnavailable, OSError) as error:
            failures.problem = f"{inbox.name}: {error}"
        now = self._clocks.monotonic()
        failures.look_at = now + (now - started) * LOOK_INTERVAL_FACTOR

    def _list_problems(self, addresses: Addresses) -> tuple[str, ...]:
        folders = (failures.problem for failures in self._memory.failures.values())
        return tuple(problem for problem in (addresses.problem, *folders) if problem)

    def _facts(self, name: str, mark: Mark, condition: Condition) -> Facts:
        failures = self._memory.failures[name]
        if failures.problem:
            return Facts(0, mark.failed_ns, condition.paused, condition.stuck)
        count = failures.notes.count(mark.failed_ns)
        return Facts(count, failures.notes.settled_ns, condition.paused, condition.stuck)

    def _tell(self, settings: Settings, url: str, addresses: Addresses, conditions: Mapping[str, Condition]) -> None:
        """Send one recipient's news if they are due; without news, its marks follow what is."""
        assert self._state is not None
        key, now = url_id(url), self._clocks.wall()
        recipient = self._state.recipients[key]
        facts = {name: self._facts(name, mark, conditions[name]) for name, mark in recipient.marks.items()}
        kinds = {name: kinds_of(settings.inbox[name], settings) for name in addresses.by_inbox}
        news = digest.find_news(recipient.marks, facts, kinds)
        if not news:
            self._memory.news_since.pop(key, None)
            quiet = replace(recipient, marks=digest.advanced(recipient.marks, facts))
            self._keep(settings, self._state.with_recipient(key, quiet), is_changed=quiet != recipient)
            return
        since = self._memory.news_since.setdefault(key, now)
        if now < digest.due_at(recipient, settings.notify, since, now):
            return
        error = self._send(url, self._write(settings, news))
        now = self._clocks.wall()
        if error:
            after = digest.after_failure(recipient, settings.notify, error, now)
        else:
            after = digest.after_success(recipient, facts, now)
            self._memory.news_since.pop(key, None)
        # If we die here: the message was sent, and is sent again after the restart.
        self._keep(settings, self._state.with_recipient(key, after), is_changed=True)
        _log_result(recipient, after, news)

    def _write(self, settings: Settings, news: list[News]) -> Message:
        failures: dict[str, list[Failure]] = {}
        for item in news:
            if item.kind == FAILED:
                notes = self._memory.failures[item.inbox].notes
                try:
                    failures[item.inbox] = list(notes.read(notes.newest(item.after_ns, files_of(news))))
                except (FolderUnavailable, OSError):
                    failures[item.inbox] = []  # the number is told
        return write_message(settings.host, news, failures)

    def _keep(self, settings: Settings, state: NotifyState, *, is_changed: bool) -> None:
        """Keep the state, and store it if it has changed; log once if that is not possible."""
        self._state = state
        if not (is_changed or self._memory.save_error):
            return
        try:
            save_state(self._disk, settings.state_dir, state)
        except OSError as error:
            if str(error) != self._memory.save_error:
                self._memory.save_error = str(error)
                remedy = "make state_dir/notify writable for beat (sudo inboxd systemd sync), or messages are repeated"
                _log.error(events.NOTIFIER_STATE_LOST, error=str(error), remedy=remedy)
        else:
            self._memory.save_error = ""


def _log_result(before: Recipient, after: Recipient, news: list[News]) -> None:
    """Log a message that was sent, and the change when a recipient begins or ends to fail."""
    if not after.error:
        files, kinds = sum(item.files for item in news), sorted({item.kind for item in news})
        inboxes = sorted({item.inbox for item in news})
        _log.info(events.NOTIFICATION_SENT, to=after.label, inboxes=inboxes, kinds=kinds, files=files)
        if digest.is_failing(before):
            _log.info(events.NOTIFIER_RECOVERED, to=after.label)
    elif digest.is_failing(after) and not digest.is_failing(before):
        remedy = "correct the URL or the server, and try: inboxd notify test; it is tried again with growing delays"
        _log.warning(events.NOTIFIER_FAILING, to=after.label, error=after.error, remedy=remedy)
