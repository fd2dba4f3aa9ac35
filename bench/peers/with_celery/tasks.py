"""The plain Celery way: a task for each file, and a link callback that moves it. No result is kept: nothing asks for one."""

from celery import Celery

from bench.peers import work

app = Celery("drop", broker=work.URL.replace("unix://", "redis+socket://"))


@app.task
def process(path: str) -> dict[str, str]:
    """Work on a file."""
    return {"path": path, "sha256": work.digest(path)}


@app.task
def finished(result: dict[str, str]) -> None:
    """File it away."""
    work.file_away(result["path"])
