"""Agreement of inboxd's content types with `file --mime-type` on real files, and the time that a detection takes.

Run `make bench-types`, or with options: `make bench-types ARGS="--per-type 30 --corpus FOLDER"`. Packages are downloaded into
build/content-types at the first run. Prints types and hits, and each kind of disagreement with a judgement.
"""

import argparse
import platform
import random
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from subprocess import run
from typing import NamedTuple

from bench.types.corpus import ask_file, candidates, download, order_of
from bench.types.judgements import ALIASES, JUDGED, NARROWER
from inboxd.content.detect import detect

CORRECT_MIN = 0.97
LIMIT_MISSED = 1
_UNKNOWN = ("application/octet-stream", "text/plain")
"""Answers that say only that a file is binary, or text: a narrower one of the same kind is no disagreement."""


class Answer(NamedTuple):
    """One file with both answers, aliases merged."""

    path: Path
    expected: str
    found: str


def compare(corpus: Path, per_type: int) -> list[Answer]:
    """Return both answers for at most ``per_type`` files of each type that `file` names."""
    paths = candidates(corpus)
    by_type: defaultdict[str, list[Path]] = defaultdict(list)
    for path, kind in zip(paths, ask_file(paths), strict=True):
        if "/" in kind and not kind.startswith(("inode/", "cannot open")):
            by_type[ALIASES.get(kind, kind)].append(path)
    answers = []
    for kind, members in sorted(by_type.items()):
        for path in sorted(members, key=lambda path: order_of(path, corpus))[:per_type]:
            with path.open("rb") as stream:
                found = detect(stream, path.name)
            answers.append(Answer(path, kind, ALIASES.get(found, found)))
    return answers


def is_narrower(answer: Answer) -> bool:
    """Tell whether `file` said only "text" or "binary", and inboxd which text or which binary format."""
    unknown_text = answer.expected == "text/plain" and answer.found.startswith(("text/", "application/", "message/"))
    return answer.expected == "application/octet-stream" or unknown_text or answer[1:] in NARROWER


def report(answers: list[Answer], *, verbose: bool) -> float:
    """Print types and hits, and the disagreements; return the share of answers that agree, or are judged to be right."""
    totals = Counter(answer.expected for answer in answers)
    hits = Counter(answer.expected for answer in answers if answer.expected == answer.found)
    narrower = [answer for answer in answers if answer.expected != answer.found and is_narrower(answer)]
    differing = [answer for answer in answers if answer.expected != answer.found and not is_narrower(answer)]
    narrowed = Counter(answer.expected for answer in narrower)
    print("| `file --mime-type` | files | the same | narrower |\n|---|--:|--:|--:|")
    for kind, total in sorted(totals.items()):
        print(f"| {kind} | {total} | {hits[kind]} | {narrowed[kind] or ''} |")
    print("\n| files | `file` | inboxd | right | why |\n|--:|---|---|---|---|")
    for (expected, found), count in Counter((answer.expected, answer.found) for answer in differing).most_common():
        right, why = JUDGED.get((expected, found), ("?", "not judged"))
        print(f"| {count} | {expected} | {found} | {right} | {why} |")
        for answer in differing if verbose else ():
            if (answer.expected, answer.found) == (expected, found):
                print(f"    {answer.path}")
    same = sum(hits.values())
    right = sum(1 for answer in differing if JUDGED.get(answer[1:], ("?",))[0] == "inboxd")
    agreement = (same + len(narrower)) / len(answers)
    correct = agreement + right / len(answers)
    print(
        f"\n{len(answers)} files of {len(totals)} types: {same} the same, {len(narrower)} narrower, {len(differing)} different "
        f"({right} of them judged in inboxd's favour): {agreement:.1%} agreement, {correct:.1%} with these",
    )
    return correct


def time_detection(answers: list[Answer]) -> None:
    """Print the time of one detection: of a text, a binary file, and the mean over the corpus, from memory."""
    import io  # noqa: PLC0415 - only here

    heads = [(io.BytesIO(answer.path.read_bytes()[: 1 << 16]), answer.path.name) for answer in answers]
    random.Random(1).shuffle(heads)  # noqa: S311 - an order
    rounds = 3
    best = min(_seconds(heads) for _ in range(rounds))
    print(f"{best / len(heads) * 1e6:.1f} µs for each file (Python {platform.python_version()})")


def _seconds(heads: list[tuple[object, str]]) -> float:
    start = time.perf_counter()
    for stream, name in heads:
        detect(stream, name)  # type: ignore[arg-type]
    return time.perf_counter() - start


def main() -> int:
    """Run the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("build/content-types"), help="folder of the corpus")
    parser.add_argument("--per-type", type=int, default=30, help="maximum of files of one type")
    parser.add_argument("--no-download", action="store_true", help="use what is in the folder")
    parser.add_argument("--verbose", action="store_true", help="print the paths of disagreements")
    arguments = parser.parse_args()
    corpus = arguments.corpus.resolve()
    if not arguments.no_download:
        download(corpus)
    version = run(("file", "--version"), capture_output=True, check=True, text=True).stdout.split("\n", 1)[0]  # noqa: S607
    answers = compare(corpus, arguments.per_type)
    print(f"Compared with {version}\n")
    correct = report(answers, verbose=arguments.verbose)
    time_detection(answers)
    return 0 if correct >= CORRECT_MIN else LIMIT_MISSED


if __name__ == "__main__":
    sys.exit(main())
