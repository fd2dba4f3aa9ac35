from django.http import JsonResponse
from django.shortcuts import render

from .forms import InvoiceForm
from .models import Invoice


def upload(request):
    """Show the form, and take what a browser uploads."""
    form = InvoiceForm(request.POST or None, request.FILES or None)
    if request.method == "GET":
        return render(request, "upload.html", {"form": form})
    if not form.is_valid():
        return JsonResponse(form.errors, status=400)
    return JsonResponse({"invoice": Invoice.receive(form.cleaned_data["file"]).pk})
