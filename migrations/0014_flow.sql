-- Joins, tasks with needs, tasks of finally and policies: what rows keep of them. Their values stand in
-- columns that are there; here it is explained.

SET LOCAL lock_timeout = '5s';

COMMENT ON COLUMN workflow_execution.ends IS
    'What the ended branches left, merged: vars (name to write_no), tasks and last_ended (name to run). And what joins and tasks with needs have come to: fired (of each join behind a split, the route and how many generations have run), omitted (tasks whose rule did not hold), held_failures (task and error of failures that such a task may handle yet). Empty parts are left out.';
COMMENT ON COLUMN workflow_execution.errors IS
    'Failures that nothing handled, a list of objects. While the execution is paused it may have some where it goes on after failures.';
COMMENT ON COLUMN workflow_task.branch IS
    'What the run sees and hands on: vars (name to write_no), tasks (name to run), passed (join to count), route (run of the split that opened its route), cut (it stood beside fail, nothing follows). Of a task with needs also needed (how those have ended that have). Empty parts are left out.';
COMMENT ON COLUMN workflow_task.arrived IS
    'By their position in the definition: predecessors that have arrived at this join, or those of the needed tasks whose ends are final.';
COMMENT ON COLUMN workflow_task.held IS
    'Whether it is held back: the execution has failed, or it is paused and the time of the run has come.';
