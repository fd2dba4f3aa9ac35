from celery import shared_task
from django.core.files.uploadedfile import UploadedFile

from .forms import InvoiceForm
from .models import Invoice


class RejectFile(Exception):
    """The file is at fault. inboxd knows this error by the name of its class, and passes on the text."""


@shared_task
def receive(file):
    """Make the invoice of a dropped file, once, however often the file is sent."""
    if invoice := Invoice.objects.filter(inboxd_id=file["id"]).first():
        return invoice.pk  # perhaps inboxd has moved the file already
    with open(file["path"], "rb") as stream:
        form = InvoiceForm(files={"file": as_upload(file, stream)})
        if not form.is_valid():
            raise RejectFile(" ".join(message for messages in form.errors.values() for message in messages))
        return Invoice.receive(form.cleaned_data["file"], file["id"]).pk


def as_upload(file, stream):
    """Return a dropped file as Django's file of an upload."""
    name = file["filename"].replace("\\", "_")  # which Django's storages take for a folder's separator
    return UploadedFile(stream, name, file["content_type"], file["content_length"])
