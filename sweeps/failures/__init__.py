"""What happens when a run fails.

1. Detected: by the worker, as an exception in a stage (`handling.record_failures`), or by another process, as a lease
   whose owner is gone or a Slurm job that ended without a result (`attempts.note_loss`, `attempts.note_end`).
2. Classified: `causes` maps the exception, or Slurm's state of the job, to a `Cause` with a `RetryPolicy`.
3. Recorded: a line in the run's attempts.jsonl for every attempt; failure.json when no retry is left.
4. Retried: while `attempts.may_try_again`, the run keeps waiting and a worker starts it again; `adadpo retry` resets
   the count.
5. Stopped: a full disk or a judge that does not answer at once, the same failure in too many runs by
   `handling.stop_on_repeated_failure`.
6. Shown: `adadpo status` and `adadpo why` print the policy's meaning and advice from the same table.
"""
