from django import forms
from django.core.validators import FileExtensionValidator


class InvoiceForm(forms.Form):
    """The form of an upload, which checks dropped files, too."""

    file = forms.FileField(max_length=200, validators=[FileExtensionValidator(["pdf"])])

    def clean_file(self):
        """Refuse what is no PDF, whatever its name."""
        file = self.cleaned_data["file"]
        if file.read(5) != b"%PDF-":
            raise forms.ValidationError("This file is not a PDF. Please export the invoice as PDF.")
        file.seek(0)
        return file
