"""Signing in and out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from sessions_app.errors import LinkInvalid, TooManyTries
from sessions_app.forms import SignInForm
from sessions_app.hints import send_recheck_on_commit
from sessions_app.services import begin_try, end_tries, redeem_sign_in_link
from sessions_app.views.access import SeeOther

View = Callable[[HttpRequest], HttpResponseBase]


def throttled(view: View) -> View:
    """Around every view that looks at passwords: too many wrong ones are 429, unlooked at."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST":
            return view(request)
        name, address = request.POST.get("username", ""), client_address(request)
        was_in = request.user.is_authenticated
        try:
            begin_try(name=name, address=address)
        except TooManyTries as refusal:
            return _come_again(request, refusal)
        response = view(request)
        if request.user.is_authenticated and not was_in:
            end_tries(name=name, address=address)
        return response

    return guarded


def _come_again(request: HttpRequest, refusal: TooManyTries) -> HttpResponse:
    response = render(request, "registration/too_many_tries.html", {"refusal": refusal}, status=429)
    response.headers["Retry-After"] = str(refusal.seconds)
    return response


def client_address(request: HttpRequest) -> str:
    """Behind a proxy that is trusted with the scheme, the last address it names: that is its own
    addition, what stands before it came from outside."""
    address: str = request.META.get("REMOTE_ADDR", "")
    if settings.SECURE_PROXY_SSL_HEADER:
        forwarded = request.headers.get("X-Forwarded-For", "")
        address = forwarded.rpartition(",")[2].strip() or address
    return address[:45]


sign_in = throttled(
    LoginView.as_view(authentication_form=SignInForm, redirect_authenticated_user=True)
)


class SignOut(LogoutView):
    """Its sockets are cut as well."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user_id = request.user.pk
        response = super().post(request, *args, **kwargs)
        if user_id is not None:
            send_recheck_on_commit(user_id)
        return response


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
