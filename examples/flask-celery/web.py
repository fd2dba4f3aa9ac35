"""The web application: a browser uploads a file."""

from uuid import uuid4

from booking import RejectFile, book
from flask import Flask, request

app = Flask(__name__)

FORM = """<form action="/upload" method="post" enctype="multipart/form-data">
<input type="file" name="file"><button>Book</button>
</form>"""


@app.get("/")
def form():
    """Show the form of an upload."""
    return FORM


@app.post("/upload")
def upload():
    """Book an uploaded file."""
    try:
        return book(request.files["file"], key=uuid4().hex)
    except RejectFile as reason:
        return {"error": str(reason)}, 400
