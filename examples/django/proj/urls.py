from django.urls import path
from invoices.views import upload

urlpatterns = [path("upload", upload)]
