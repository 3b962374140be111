"""What a worker process does when a bell rings: claim runs and see them through, one by one."""

from __future__ import annotations

import errno
import os
import socket

import structlog
from django.db import DatabaseError
from structlog.contextvars import bound_contextvars

from cmbagent.wire import Failure
from execution_app import control, sandbox, services
from execution_app.endings import fail_run
from execution_app.errors import BuildChanged, EntryRefused, JournalDamaged, LeaseLost
from execution_app.model_choice import name_of_model
from execution_app.services import Claim
from execution_app.supervisor import Supervisor
from sessions_app.errors import ConfigInvalid
from sessions_app.event_types import RunFailed
from sessions_app.hints import keep_one_loop

logger = structlog.get_logger(__name__)

# no process, memory or descriptor is free for an engine: nothing of the run, and it passes
_SHORTAGES = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}  # may name no file


def supervise_while_there_is_work() -> None:
    """Claim runs and see them through until none is claimable or the host drains."""
    keep_one_loop()
    owner = control.owner_name(os.getpid())
    services.release_own_leftovers(os.getpid())
    with control.listen() as nudges:
        try:
            while not control.is_draining():
                claim = services.claim_run(
                    owner=owner, sandbox_level=sandbox.level_of_host(), name_model=name_of_model
                )
                if claim is None:
                    break
                supervise(claim, nudges)
        finally:
            control.remove_socket(os.getpid())


def supervise(claim: Claim, nudges: socket.socket) -> None:
    """See one claimed run through to whatever its end is."""
    with bound_contextvars(
        session_id=str(claim.session_id), run_id=str(claim.run_id), attempt=claim.attempt
    ):
        logger.info("run_claimed")
        try:
            Supervisor(claim, nudges).run()
        except EntryRefused:
            pass  # it is logged, and the run has failed of it
        except LeaseLost:
            logger.warning("lease_lost")
        except BuildChanged as error:
            logger.error("build_changed", error=str(error))  # noqa: TRY400  the sentence says all
            _hand_back(claim, error)
        except Exception as error:
            # a process edge: whatever it was (a full disk, a fault of ours), the run is not left
            # to its lease, and people learn what it was
            logger.exception("supervisor_failed")
            _hand_back(claim, error)


def _hand_back(claim: Claim, error: Exception) -> None:
    try:
        match error:
            case OSError() if error.errno in _SHORTAGES:
                services.postpone_run(claim, _shortage(error), None)
            case OSError() if error.filename is not None or error.errno in _OF_DISKS:
                fail_run(claim, _storage_failure(error))
            case ConfigInvalid():
                fail_run(claim, _model_failure(error))
            case BuildChanged():  # no crash: it is not the run's fault, and a restart mends it
                services.postpone_run(claim, error.failure(), None)
            case JournalDamaged():
                fail_run(claim, services.run_failed(error.failure()), retry_from=error.key)
            case _:
                reason = f"supervisor_failed: {type(error).__name__}"
                services.release_crashed(claim, reason=reason)
    except (LeaseLost, DatabaseError) as failure:
        logger.warning("not_handed_back", error=str(failure)[:300])


def _model_failure(error: ConfigInvalid) -> RunFailed:
    return RunFailed(
        error_type="model_unavailable",
        message=f"The run wants a model that is not connected: {error}.",
        suggestion="Choose another model in the session, or ask the operator to connect it. "
        "Then retry.",
        retryable=True,
    )


def _shortage(error: OSError) -> Failure:
    return {
        "error_type": "engine_not_started",
        "message": f"The server has no room for the run now: {error.strerror or error}.",
        "suggestion": "Tell the operator: fewer workers, or more memory and processes. Then retry.",
        "retryable": True,
    }


def _storage_failure(error: OSError) -> RunFailed:
    return RunFailed(
        error_type="server_storage",
        message=f"The server could not keep the run's files: {error.strerror or error}.",
        suggestion="Tell the operator: its log names the folder. Then retry.",
        retryable=True,
    )
