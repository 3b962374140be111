"""The only writers of this app's tables.

Lock order everywhere: run, approval, session. The session's row is the hottest: last, shortest.
"""

from sessions_app.services.idempotency import (
    Answer,
    Ask,
    answer_once,
    check_key,
    earlier_answer,
    forget_old_keys,
)
from sessions_app.services.keys import (
    create_sign_in_link,
    create_token,
    find_token,
    redeem_sign_in_link,
    revoke_token,
)
from sessions_app.services.log import LINES_ONLY, Lines, append_events, append_lines
from sessions_app.services.presence import (
    Newcomer,
    beat,
    close_connections,
    drop_dead_servers,
    mark_draining,
    open_connections,
    register_server,
    retire_server,
    retire_web_server,
    web_server,
)
from sessions_app.services.sessions import create_session, mark_deleted, move_session
from sessions_app.services.state import save_state
from sessions_app.services.tries import begin_try, end_tries

__all__ = [
    "LINES_ONLY",
    "Answer",
    "Ask",
    "Lines",
    "Newcomer",
    "answer_once",
    "append_events",
    "append_lines",
    "beat",
    "begin_try",
    "check_key",
    "close_connections",
    "create_session",
    "create_sign_in_link",
    "create_token",
    "drop_dead_servers",
    "earlier_answer",
    "end_tries",
    "find_token",
    "forget_old_keys",
    "mark_deleted",
    "mark_draining",
    "move_session",
    "open_connections",
    "redeem_sign_in_link",
    "register_server",
    "retire_server",
    "retire_web_server",
    "revoke_token",
    "save_state",
    "web_server",
]
