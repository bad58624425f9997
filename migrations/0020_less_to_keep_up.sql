-- What the database keeps up for every row and nobody asks for.

SET LOCAL lock_timeout = '5s';

-- Most starts have no key, and an index of all keys has an entry for each of those too.
ALTER TABLE workflow_start DROP CONSTRAINT workflow_start_idempotency_key;
CREATE UNIQUE INDEX workflow_start_idempotency_key ON workflow_start (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- ANALYZE sorts 30,000 values of each column, and for those of documents and lists that takes nearly as long
-- as for all others together. No plan is made by them. Columns that people search keep theirs: tags, errors.
ALTER TABLE workflow_execution
    ALTER COLUMN parameters SET STATISTICS 0,
    ALTER COLUMN visits SET STATISTICS 0,
    ALTER COLUMN live_runs SET STATISTICS 0,
    ALTER COLUMN ends SET STATISTICS 0,
    ALTER COLUMN output SET STATISTICS 0,
    ALTER COLUMN reply_to SET STATISTICS 0;
ALTER TABLE workflow_task
    ALTER COLUMN input SET STATISTICS 0,
    ALTER COLUMN branch SET STATISTICS 0,
    ALTER COLUMN caused_by SET STATISTICS 0,
    ALTER COLUMN arrived SET STATISTICS 0,
    ALTER COLUMN result SET STATISTICS 0,
    ALTER COLUMN items SET STATISTICS 0,
    ALTER COLUMN item_progress SET STATISTICS 0,
    ALTER COLUMN secrets SET STATISTICS 0;
ALTER TABLE workflow_variable ALTER COLUMN value SET STATISTICS 0;
