"""Where the pages are. A path that begins with _ answers a fragment of a page."""

from __future__ import annotations

from django.urls import path

from sessions_app.views import (
    account,
    beginning,
    console,
    door,
    files,
    listing,
    session,
    welcome,
)

app_name = "sessions"

_ONE = "sessions/<uuid:session_id>/"

urlpatterns = [
    path("", listing.home, name="home"),
    path("welcome/", welcome.show_welcome, name="welcome"),
    path("welcome/_state/", welcome.show_state, name="welcome_state"),
    path("welcome/model/", welcome.try_the_model, name="try_model"),
    path("account/", account.show_account, name="account"),
    path("account/tokens/", account.create, name="create_token"),
    path("account/tokens/<int:token_id>/revoke/", account.revoke, name="revoke_token"),
    path("account/password/", account.change_password, name="change_password"),
    path("sign-in/", door.sign_in, name="sign_in"),
    path("sign-in/link/", door.sign_in_link, name="sign_in_link"),
    path("sign-out/", door.SignOut.as_view(), name="sign_out"),
    path("sessions/", listing.list_sessions, name="list"),
    path("sessions/new/", beginning.new_session, name="new"),
    path(_ONE, session.show_session, name="detail"),
    path(f"{_ONE}_status/", session.show_status, name="status"),
    path(f"{_ONE}_talk/", session.show_talk, name="talk"),
    path(f"{_ONE}_console/", console.show_console, name="console"),
    path(f"{_ONE}_search/", console.search_console, name="search"),
    path(f"{_ONE}_plots/", session.show_plots, name="plots"),
    path(f"{_ONE}_files/", session.show_files, name="files"),
    path(f"{_ONE}runs/", session.start_run, name="start_run"),
    path(f"{_ONE}files/", session.upload, name="upload"),
    path(f"{_ONE}files/<path:path>", files.show_file, name="file"),
    path(f"{_ONE}bytes/<path:path>", files.send_file, name="file_bytes"),
    path(f"{_ONE}delete/", session.delete, name="delete"),
    *(
        path(f"{_ONE}{command}/", session.command_run, {"command": command}, name=command)
        for command in session.COMMANDS
    ),
]
