"""Signing in and out."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sessions_app.errors import LinkInvalid
from sessions_app.forms import SignInForm
from sessions_app.services import redeem_sign_in_link
from sessions_app.views.access import SeeOther


class SignIn(LoginView):
    authentication_form = SignInForm
    redirect_authenticated_user = True


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest) -> HttpResponse:
    """Its GET burns nothing: programs that preview links open them too."""
    if request.method == "POST":
        response = _redeem(request, request.POST.get("token", ""))
    else:
        response = _page(request, {"token": request.GET.get("token", "")})
    # The token stands in the address, so that never more than our origin may be told. Not even
    # that (no-referrer) would make the browser send "Origin: null" with Continue, a CSRF failure.
    response.headers["Referrer-Policy"] = "strict-origin"
    return response


def _redeem(request: HttpRequest, token: str) -> HttpResponse:
    try:
        user = redeem_sign_in_link(token)
    except LinkInvalid as refusal:
        return _page(request, {"refused": str(refusal)}, status=410)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return SeeOther(reverse(settings.LOGIN_REDIRECT_URL))


def _page(request: HttpRequest, context: dict[str, str], status: int = 200) -> HttpResponse:
    return render(request, "registration/sign_in_link.html", context, status=status)
