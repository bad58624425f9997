-- Reruns: what rows keep of them stands in columns that are there. Here it is explained; the
-- view that shows what holds now follows with the next migration.

SET LOCAL lock_timeout = '5s';

COMMENT ON COLUMN workflow_execution.parameters IS
    'Parameters of the start with defaults filled in, an object. Those that a rerun has given stand in ends, under rerun.';
COMMENT ON COLUMN workflow_execution.output IS
    'What the definition''s output gave at the end; NULL before, and the JSON null while a rerun is under way.';
COMMENT ON COLUMN workflow_execution.finished_at IS 'When it last ended; NULL while it lives.';
COMMENT ON COLUMN workflow_execution.ends IS
    'What the ended branches left, merged: vars (name to write_no), tasks and last_ended (name to run). And what joins and tasks with needs have come to: fired (of each join behind a split, since a rerun of each join, the route and how many generations have run), omitted (tasks whose rule did not hold), held_failures (task and error of failures that such a task may handle yet). Since a rerun also rerun: no (how many there have been), began_at, finals (how often tasks of finally had run before), parameters (those that reruns have given), errors (failures of before of which nothing runs again; they count at the end). Empty parts are left out.';
COMMENT ON COLUMN workflow_task.branch IS
    'What the run sees and hands on: vars (name to write_no), tasks (name to run), passed (join to count), route (run of the split that opened its route), cut (it stood beside fail, nothing follows), again (the run that it repeats, or goes on for, by a rerun). Of a task with needs also needed (how those have ended that have); of one whose attempts together are limited until, when they have had their time. Empty parts are left out.';
COMMENT ON COLUMN workflow_task.item_progress IS
    'How far a task has come with its items (or batches): count, concurrency, tolerated, next (the first that has not started), active, failed, cancelled; after a rerun kept_of, the run whose items that succeeded are kept; NULL for tasks without items.';
