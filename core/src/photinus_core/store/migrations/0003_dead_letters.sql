-- min code: 2
-- Events that a webhook did not take. A program that does not know them neither parks nor tries again.

CREATE TABLE dead_letters (
    sequence $SEQUENCE$,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    subscription TEXT NOT NULL,
    event TEXT NOT NULL,
    event_sequence BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    status BIGINT NOT NULL,
    error TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL
);
CREATE UNIQUE INDEX dead_letters_id ON dead_letters (namespace, id);
CREATE UNIQUE INDEX dead_letters_event ON dead_letters (namespace, event, subscription);
CREATE INDEX dead_letters_subscription ON dead_letters (namespace, subscription, sequence);
CREATE INDEX dead_letters_queued ON dead_letters (namespace, subscription, sequence) WHERE state = 'queued';
