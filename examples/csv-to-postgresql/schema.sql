CREATE TABLE loaded_file (
    id        text PRIMARY KEY,
    path      text NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE payment (
    file_id text NOT NULL REFERENCES loaded_file,
    line    integer NOT NULL,
    day     date NOT NULL,
    account text NOT NULL,
    amount  numeric(12, 2) NOT NULL,
    PRIMARY KEY (file_id, line)
);
