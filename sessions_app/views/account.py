"""What is one's own: tokens of programs, the password, the pages that are open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from sessions_app.errors import TooManyTries
from sessions_app.forms import TokenForm
from sessions_app.hints import send_recheck_on_commit
from sessions_app.models import ApiToken, Connection
from sessions_app.services import begin_try, create_token, end_tries, revoke_token
from sessions_app.views.access import PageRequest, SeeOther, for_members
from sessions_app.views.door import client_address

_SHOWN = 100


@require_GET
@never_cache
@for_members
def show_account(request: PageRequest) -> HttpResponse:
    return _page(request, {})


def _page(request: PageRequest, more: dict[str, Any], status: int = 200) -> HttpResponse:
    context = {
        "section": "account",
        "token_form": TokenForm(),
        "has_password": request.user.has_usable_password(),
        "connections": _connections(request.user),
        **_tokens(request.user),
    }
    return render(request, "sessions/account.html", context | more, status=status)


def _connections(user: User) -> list[Connection]:
    mine = Connection.objects.alive().filter(user=user).select_related("session")
    return list(mine.order_by("connected_at")[:_SHOWN])


# -- tokens -----------------------------------------------------------------------------------
def _tokens(user: User) -> dict[str, Any]:
    kept = ApiToken.objects.filter(user=user, revoked_at__isnull=True)
    return {"tokens": list(kept.order_by("-created_at")[:_SHOWN]), "now": timezone.now()}


@require_POST
@never_cache
@for_members
def create(request: PageRequest) -> HttpResponse:
    """The answer is the one place where the token stands; nothing keeps it."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _answer(request, {"token_form": form}, status=422)
    days = form.cleaned_data["days"]
    expires_at = timezone.now() + timedelta(days=days) if days else None
    token = create_token(user=request.user, name=form.cleaned_data["name"], expires_at=expires_at)
    return _answer(request, {"made": token, "made_name": form.cleaned_data["name"]})


@require_POST
@never_cache
@for_members
def revoke(request: PageRequest, token_id: int) -> HttpResponse:
    token = get_object_or_404(ApiToken, pk=token_id, user=request.user)
    revoke_token(token)
    said = f"Revoked “{token}”: whatever uses it is refused from now on."
    if request.htmx:
        return _answer(request, {"said": said})
    messages.success(request, said)
    return SeeOther(reverse("sessions:account"))


def _answer(request: PageRequest, more: dict[str, Any], status: int = 200) -> HttpResponse:
    if not request.htmx:
        return _page(request, more, status)
    context = {"token_form": TokenForm(), **_tokens(request.user), **more}
    return render(request, "sessions/_tokens.html", context, status=status)


# -- the password -----------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
@never_cache
@for_members
def change_password(request: PageRequest) -> HttpResponse:
    """Whoever signed in with a link and has no password yet chooses one without an old one."""
    form = _password_form(request)
    if request.method != "POST":
        return _password_page(request, form)
    name, address = request.user.get_username(), client_address(request)
    try:
        begin_try(name=name, address=address)  # a stolen cookie is no way to guess the password
    except TooManyTries as refusal:
        return _password_page(request, form, refused=str(refusal), status=429)
    if not form.is_valid():
        return _password_page(request, form, status=422)
    end_tries(name=name, address=address)
    update_session_auth_hash(request, form.save())  # signed in here, signed out everywhere else
    send_recheck_on_commit(request.user.pk)
    messages.success(request, "The password was changed. Other browsers are signed out.")
    return SeeOther(reverse("sessions:account"))


def _password_form(request: PageRequest) -> SetPasswordForm[User]:
    kind = PasswordChangeForm if request.user.has_usable_password() else SetPasswordForm
    form = kind(request.user, request.POST if request.method == "POST" else None)
    for field in form.fields.values():
        field.widget.attrs["class"] = "field"
    return form


def _password_page(
    request: PageRequest, form: SetPasswordForm[User], refused: str = "", status: int = 200
) -> HttpResponse:
    context = {"form": form, "refused": refused, "section": "account"}
    return render(request, "sessions/password.html", context, status=status)
