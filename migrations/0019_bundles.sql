-- Jobs may travel in bundles; what comes back of one is published again.

COMMENT ON TYPE transition_kind IS
    'What an entry of the log of an execution says. The creation of a run and its first dispatch are one entry; job_resent is the same attempt published again, because its job was lost, its worker fell silent, or the bundle that it was in came back.';
