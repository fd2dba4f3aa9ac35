"""huey's task."""

from huey import RedisHuey

from bench.peers import work

huey = RedisHuey("drop", url=work.URL)


@huey.task()  # type: ignore[untyped-decorator]
def process(path: str) -> str:
    """Work on a file, and file it away."""
    sha256 = work.digest(path)
    work.file_away(path)
    return sha256
