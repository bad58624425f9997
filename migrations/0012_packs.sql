-- Packs: what a definition gets from outside of its own text, and what actions say of themselves.

SET LOCAL lock_timeout = '5s';

ALTER TABLE workflow_definition ADD COLUMN pack text;
COMMENT ON COLUMN workflow_definition.pack IS
    'What the definition gets of its pack, fixed with it, as JSON text: config, and what the actions that it names say of themselves (pool, timeout). NULL if there is nothing of it.';
COMMENT ON COLUMN workflow_definition.hash IS
    'Hash of the definition, 32 bytes: of the bytes of its text, and of what it gets of its pack after a zero byte if there is any.';

CREATE TABLE workflow_action (
    action text PRIMARY KEY,
    description text,
    pool text,
    timeout_s double precision,
    parameters jsonb,
    source text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT workflow_action_timeout_is_positive CHECK (timeout_s > 0)
);

COMMENT ON TABLE workflow_action IS
    'Actions as packs describe them; the newest registration counts. Read when a workflow is registered: a definition keeps what it was registered with. Actions that no pack describes need no row. Written by `flotilla register`.';
COMMENT ON COLUMN workflow_action.action IS 'Reference of the action, pack.name.';
COMMENT ON COLUMN workflow_action.description IS 'What it is for, if its file says so.';
COMMENT ON COLUMN workflow_action.pool IS 'The worker pool of its tasks, where they name none; NULL for the pool `default`.';
COMMENT ON COLUMN workflow_action.timeout_s IS 'Seconds that an attempt may run, where its task says nothing; NULL for the default of the language.';
COMMENT ON COLUMN workflow_action.parameters IS 'Schema of its input as its file has it; NULL if it has none.';
COMMENT ON COLUMN workflow_action.source IS 'The text of its file.';
COMMENT ON COLUMN workflow_action.registered_at IS 'When it was last registered.';
