from django.db import models, transaction


class Invoice(models.Model):
    """An invoice that was uploaded, or dropped into a folder."""

    file = models.FileField(upload_to="invoices", max_length=255)
    content_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField()
    inboxd_id = models.CharField(max_length=100, unique=True, null=True, editable=False)  # noqa: DJ001 - None: uploaded

    def __str__(self):
        return self.file.name

    @classmethod
    def receive(cls, file, inboxd_id=None):
        """Return the invoice of an uploaded file; with an id that is known, the one that was made before."""
        fields = {"content_type": file.content_type, "size": file.size}
        with transaction.atomic():
            if inboxd_id is None:
                invoice, is_new = cls.objects.create(**fields), True
            else:
                invoice, is_new = cls.objects.get_or_create(inboxd_id=inboxd_id, defaults=fields)
            # The row comes first, so that of two processes only one stores the file. A process that is killed before the
            # commit leaves a file without a row, as with every upload.
            if is_new:
                invoice.file.save(file.name, file)
        return invoice
