"""Everything that changes a spool: each of these is tried at each of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.crash import controlling, producing, recovering, working

if TYPE_CHECKING:
    from tests.crash.doing import Operation

OPERATIONS: dict[str, type[Operation]] = {
    "set up": producing.SetUp,
    "submit": producing.Submit,
    "submit with one sync": producing.SubmitWithOneSync,
    "submit a group": producing.SubmitGroup,
    "submit a group file by file": producing.SubmitGroupFileByFile,
    "retry": producing.Retry,
    "join": working.Join,
    "join the spool of an older bgjobs": working.JoinOlder,
    "claim": working.Claiming,
    "claim by selection": working.ClaimingBySelection,
    "begin": working.Begin,
    "finish": working.Finish,
    "finish as failed": working.FinishFailed,
    "another attempt": working.AnotherAttempt,
    "another attempt of an unwanted job": working.AnotherAttemptUnwanted,
    "hand back": working.HandBack,
    "hand back an unwanted job": working.HandBackUnwanted,
    "hand back a begun job": working.HandBackBegun,
    "renew": working.Renew,
    "leave": working.Leave,
    "cancel a pending job": controlling.CancelPending,
    "cancel a delayed job": controlling.CancelDelayed,
    "cancel a running job": controlling.CancelRunning,
    "stop a worker": controlling.StopWorker,
    "recover": recovering.Recover,
    "recover after a boot": recovering.RecoverAfterBoot,
    "tidy": controlling.Tidy,
    "prune": controlling.Prune,
    "prune the last hour": controlling.PruneLastHour,
    "delete": controlling.Delete,
    "run now": controlling.RunNow,
    "import": producing.Import,
}
