"""The only writers of runs and what they made.

Lock order everywhere: run, approval, session. Leases use the database's clock.
"""

from execution_app.services.batches import Unstorable, record_batch
from execution_app.services.beginnings import begin_session
from execution_app.services.claims import (
    Claim,
    Requests,
    claim_run,
    last_console_line,
    postpone_run,
    record_process_group,
    release_crashed,
    release_run,
    renew_lease,
)
from execution_app.services.costs import Costs, cost_of_run, costs_by, costs_of, tokens_of_run
from execution_app.services.files import (
    FoundFile,
    artifact_file,
    receive_upload,
    record_artifacts,
    record_upload,
    session_folder,
    store_bytes,
    store_upload,
    work_dir,
)
from execution_app.services.groups import Batch, record_group
from execution_app.services.journal import Finished, journal_of
from execution_app.services.outcomes import failed, run_failed
from execution_app.services.repair import (
    expire_sessions,
    reap_runs,
    release_dead_supervisor,
    release_own_leftovers,
    waiting_for_a_worker,
)
from execution_app.services.runs import (
    cancel_run,
    delete_session,
    pause_run,
    resume_run,
    retry_run,
    start_run,
)

__all__ = [
    "Batch",
    "Claim",
    "Costs",
    "Finished",
    "FoundFile",
    "Requests",
    "Unstorable",
    "artifact_file",
    "begin_session",
    "cancel_run",
    "claim_run",
    "cost_of_run",
    "costs_by",
    "costs_of",
    "delete_session",
    "expire_sessions",
    "failed",
    "journal_of",
    "last_console_line",
    "pause_run",
    "postpone_run",
    "reap_runs",
    "receive_upload",
    "record_artifacts",
    "record_batch",
    "record_group",
    "record_process_group",
    "record_upload",
    "release_crashed",
    "release_dead_supervisor",
    "release_own_leftovers",
    "release_run",
    "renew_lease",
    "resume_run",
    "retry_run",
    "run_failed",
    "session_folder",
    "start_run",
    "store_bytes",
    "store_upload",
    "tokens_of_run",
    "waiting_for_a_worker",
    "work_dir",
]
