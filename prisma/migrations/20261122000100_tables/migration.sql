-- The tables. What each column means is told in schema.prisma, which is the data dictionary.
-- There are no foreign keys between them: a key check locks the row it points to, and an INSERT
-- into a line must never wait for anybody.

create table threads (
  id                  text primary key,
  provider            text,
  provider_thread_id  text,
  last_item_id        text,
  last_message_at     timestamptz(6),
  last_turn           bigint not null default 0,
  metadata            jsonb not null default '{}',
  on_failure          text not null default 'continue',
  if_busy             text not null default 'enqueue',
  debounce_ms         integer,
  debounce_max_ms     integer,
  resumed_turn        bigint not null default 0,
  user_id             text,
  session_id          text,
  topic               text,
  labels              jsonb not null default '{}',
  policy              text,
  generation          integer not null default 0,
  generation_since    timestamptz(6),
  last_active_at      timestamptz(6) not null default clock_timestamp(),
  lifecycle_operation_id bigint,
  ended_before        bigint not null default 0,
  erase_before        bigint not null default 0,
  messages_so_far     bigint not null default 0,
  runs_so_far         bigint not null default 0,
  input_tokens_so_far bigint not null default 0,
  output_tokens_so_far bigint not null default 0,
  closed_at           timestamptz(6),
  deleted_at          timestamptz(6),
  created_at          timestamptz(6) not null default clock_timestamp(),
  updated_at          timestamptz(6) not null default clock_timestamp(),
  constraint thread_id_has_1_to_255_characters check (length(id) between 1 and 255),
  constraint thread_provider_is_known check (provider in ('responses', 'assistants')),
  constraint thread_on_failure_is_continue_halt_or_cancel_rest check (on_failure in ('continue', 'halt', 'cancel_rest')),
  constraint thread_if_busy_is_a_strategy
    check (if_busy in ('enqueue', 'reject', 'interrupt', 'latest', 'merge', 'interrupt+merge')),
  constraint thread_debounce_ms_is_up_to_an_hour check (debounce_ms between 1 and 3600000),
  constraint thread_debounce_max_ms_is_up_to_a_day check (debounce_max_ms between 1 and 86400000),
  constraint thread_keys_have_1_to_255_characters
    check (length(user_id) between 1 and 255 and length(session_id) between 1 and 255 and length(topic) between 1 and 255),
  constraint thread_labels_are_an_object check (jsonb_typeof(labels) = 'object'),
  constraint deleted_thread_is_closed check (deleted_at is null or closed_at is not null)
) with (fillfactor = 80);

-- Whose threads are they, page by page, and which carry a label: `where labels @> '{"team": "red"}'`.
create index threads_of_a_user on threads (user_id, id) where user_id is not null;
create index threads_of_a_session on threads (session_id, id) where session_id is not null;
create index threads_of_a_topic on threads (topic, id) where topic is not null;
create index threads_by_labels on threads using gin (labels jsonb_path_ops);
create index threads_by_metadata on threads using gin (metadata jsonb_path_ops);
create index threads_by_provider_thread on threads (provider_thread_id) where provider_thread_id is not null;
-- Those with a request of a sweep that is under way.
create index threads_in_a_sweep on threads (lifecycle_operation_id) where lifecycle_operation_id is not null;

-- Those of which something is still to be erased.
create index threads_to_erase on threads (id) where erase_before > 0;

create sequence thread_operations_id_seq as bigint;

-- No check constraints: each is read and prepared anew by every statement, a sixth of the cost of an
-- INSERT. What they would say, the entry trigger and the guard say, and with a hint.
create table thread_operations (
  id               bigint not null,
  thread_id        text not null,
  operation        text not null,
  data             jsonb not null default '{}',
  status           text not null default 'pending',
  priority         smallint not null default 0,
  idempotency_key  text,
  retry            jsonb,
  user_id          text,
  scheduled_at     timestamptz(6),
  if_busy          text,
  debounce_ms      integer,
  debounce_max_ms  integer,
  target_id        bigint,
  place            bigint,
  turn             bigint,
  provider         text not null default '',
  head_since       timestamptz(6),
  ready_at         timestamptz(6),
  attempts         integer not null default 0,
  failures         integer not null default 0,
  claimed_by       text,
  intent           jsonb,
  progress         jsonb,
  merges           bigint[],
  held_until       timestamptz(6),
  result           jsonb,
  error            jsonb,
  messages_so_far  bigint,
  runs_so_far      bigint,
  input_tokens_so_far bigint,
  output_tokens_so_far bigint,
  prev_status      text,
  created_by       text not null default '',
  created_at       timestamptz(6) not null default clock_timestamp(),
  updated_at       timestamptz(6) not null default clock_timestamp(),
  started_at       timestamptz(6),
  finished_at      timestamptz(6),
  constraint thread_operations_pkey primary key (id)
) with (
  -- Every operation is rewritten a few times within seconds: leave room on its page, vacuum early.
  fillfactor = 60,
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_insert_scale_factor = 0.05
);
alter sequence thread_operations_id_seq owned by thread_operations.id;

-- The last line of defence: whatever a dispatcher believes, no thread has two active operations.
create unique index one_active_operation_per_thread on thread_operations (thread_id)
  where status in ('processing', 'requires_action');

-- A thread's line: who stands in it has a place. Every "who is first?" is one probe of it.
create index line_by_place on thread_operations (thread_id, place) where place is not null;

-- Who is not in the line: what acts on an operation that is (target_id), and what joins later.
create index operations_beside_the_line on thread_operations (target_id, id) where status = 'pending' and place is null;
create index scheduled_operations on thread_operations (scheduled_at) where status = 'scheduled';

-- The heads that may be served, oldest first within a priority. A claim reads nothing else.
create index heads_by_readiness on thread_operations (provider, priority, ready_at, id)
  where ready_at is not null;

-- Turns are unique within a thread; it is also the index for "all operations of a thread".
create unique index one_operation_per_turn on thread_operations (thread_id, turn);

create unique index idempotency_key_is_unique_per_thread on thread_operations (thread_id, idempotency_key)
  where idempotency_key is not null;

create table operation_events (
  id            bigint generated always as identity,
  operation_id  bigint not null,
  thread_id     text not null,
  from_status   text not null,
  to_status     text not null,
  turn          bigint,
  attempt       integer not null,
  actor         text not null,
  code          text,
  run_id        text,
  retry_at      timestamptz(6),
  detail        jsonb,
  at            timestamptz(6) not null default clock_timestamp(),
  -- One index for the story of a thread, of an operation, and their identity: the ledger is written often.
  primary key (thread_id, operation_id, id)
);

create table unsettled_outcomes (
  operation_id  bigint primary key,
  attempts      integer not null,
  claimed_by    text not null,
  outcome       jsonb not null,
  noted_at      timestamptz(6) not null default clock_timestamp()
);

create table operation_waiters (
  operation_id  bigint not null,
  waiter        text not null,
  since         timestamptz(6) not null default clock_timestamp(),
  primary key (operation_id, waiter)
);

create table dispatchers (
  id           text primary key,
  host         text not null,
  pid          integer not null,
  concurrency  integer not null,
  providers    text[] not null,
  asleep       boolean not null default false,
  direct       boolean not null default false,
  grace_ms     integer not null,
  lease_ms     integer not null,
  started_at   timestamptz(6) not null default clock_timestamp(),
  beat_at      timestamptz(6) not null default clock_timestamp()
) with (fillfactor = 50);
create index dispatchers_asleep on dispatchers (id) where asleep;

create table lanes (
  provider      text not null,
  key           text not null,
  model         text not null default '',
  max_runs      integer,
  paused_at     timestamptz(6),
  paused_until  timestamptz(6),
  reason        text,
  strikes       integer not null default 0,
  probed_at     timestamptz(6),
  created_at    timestamptz(6) not null default clock_timestamp(),
  updated_at    timestamptz(6) not null default clock_timestamp(),
  primary key (provider, key, model),
  constraint lane_provider_is_known check (provider in ('responses', 'assistants')),
  constraint lane_max_runs_is_at_least_1 check (max_runs >= 1)
);

create table lane_runs (
  operation_id  bigint primary key,
  provider      text not null,
  key           text not null,
  model         text not null,
  since         timestamptz(6) not null default clock_timestamp()
);
create index runs_of_a_lane on lane_runs (provider, key, model);

create table user_runs (
  operation_id  bigint primary key,
  user_id       text not null,
  since         timestamptz(6) not null default clock_timestamp()
);
create index runs_of_a_user on user_runs (user_id);

create table assistants (
  id            text primary key,
  model         text,
  prompt        jsonb,
  instructions  text,
  tools         jsonb,
  parameters    jsonb not null default '{}',
  created_at    timestamptz(6) not null default clock_timestamp(),
  updated_at    timestamptz(6) not null default clock_timestamp(),
  constraint assistant_has_a_model_or_a_prompt check (model is not null or prompt is not null),
  constraint assistant_tools_are_an_array check (jsonb_typeof(tools) = 'array'),
  constraint assistant_prompt_is_an_object check (jsonb_typeof(prompt) = 'object'),
  constraint assistant_parameters_are_an_object check (jsonb_typeof(parameters) = 'object')
);
