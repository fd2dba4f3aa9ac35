"""Plain Celery: a task for each file, and a link callback that moves the file. Results are not stored, since none is read."""

from celery import Celery

from bench.peers import work

app = Celery("drop", broker=work.URL.replace("unix://", "redis+socket://"))


@app.task
def process(path: str) -> dict[str, str]:
    """Hash a file."""
    return {"path": path, "sha256": work.digest(path)}


@app.task
def finished(result: dict[str, str]) -> None:
    """Move the file to done/."""
    work.move_to_done(result["path"])
