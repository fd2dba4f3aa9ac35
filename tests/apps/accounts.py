"""Another project on the same broker, which consumes the same queue and has no task for files."""

import os

from celery import Celery

app = Celery("accounts", broker=os.environ["BROKER"])
