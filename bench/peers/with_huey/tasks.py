"""huey's task."""

from huey import RedisHuey

from bench.peers import work

huey = RedisHuey("drop", url=work.URL)


@huey.task()  # type: ignore[untyped-decorator]
def process(path: str) -> str:
    """Hash a file and move it to done/."""
    sha256 = work.digest(path)
    work.move_to_done(path)
    return sha256
