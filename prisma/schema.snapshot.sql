-- Everything that the migrations make, as PostgreSQL prints it: what Prisma cannot show is here too.
-- Compared by a test, and written anew by: npx vitest run test/db/schema.test.ts --update
-- check_operation_data is left out: "inturn migrate" generates it from the schemas of the operations.

create sequence thread_operations_id_seq as bigint increment 1 cache 1 owned by thread_operations.id;

create table archived_messages (
  archive_id bigint not null,
  "position" bigint not null,
  item_id text not null,
  type text not null,
  role text,
  text text,
  content jsonb,
  attachments text[] default '{}'::text[] not null,
  run_id text,
  metadata jsonb,
  said_at timestamp(6) with time zone,
  item jsonb not null,
  constraint archived_messages_pkey PRIMARY KEY (archive_id, "position")
);

create table archived_runs (
  archive_id bigint not null,
  turn bigint not null,
  operation_id bigint not null,
  run_id text,
  status text,
  model text,
  usage jsonb,
  user_id text,
  started_at timestamp(6) with time zone,
  finished_at timestamp(6) with time zone,
  constraint archived_runs_pkey PRIMARY KEY (archive_id, turn)
);

create table assistants (
  id text not null,
  model text,
  prompt jsonb,
  instructions text,
  tools jsonb,
  parameters jsonb default '{}'::jsonb not null,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  updated_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint assistant_has_a_model_or_a_prompt CHECK (((model IS NOT NULL) OR (prompt IS NOT NULL))),
  constraint assistant_parameters_are_an_object CHECK ((jsonb_typeof(parameters) = 'object'::text)),
  constraint assistant_prompt_is_an_object CHECK ((jsonb_typeof(prompt) = 'object'::text)),
  constraint assistant_tools_are_an_array CHECK ((jsonb_typeof(tools) = 'array'::text)),
  constraint assistants_pkey PRIMARY KEY (id)
);

create table dispatchers (
  id text not null,
  host text not null,
  pid integer not null,
  concurrency integer not null,
  providers text[] not null,
  asleep boolean default false not null,
  direct boolean default false not null,
  grace_ms integer not null,
  lease_ms integer not null,
  started_at timestamp(6) with time zone default clock_timestamp() not null,
  beat_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint dispatchers_pkey PRIMARY KEY (id)
) with (fillfactor=50);
CREATE INDEX dispatchers_asleep ON public.dispatchers USING btree (id) WHERE asleep;

create table erasures (
  id bigint generated always as identity not null,
  user_id text not null,
  requested_by text not null,
  requested_at timestamp(6) with time zone default clock_timestamp() not null,
  progress jsonb default '{}'::jsonb not null,
  finished_at timestamp(6) with time zone,
  report jsonb,
  constraint erasure_user_id_has_1_to_255_characters CHECK (((length(user_id) >= 1) AND (length(user_id) <= 255))),
  constraint erasures_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX erasures_under_way ON public.erasures USING btree (user_id) WHERE (finished_at IS NULL);

create table lane_runs (
  operation_id bigint not null,
  provider text not null,
  key text not null,
  model text not null,
  since timestamp(6) with time zone default clock_timestamp() not null,
  constraint lane_runs_pkey PRIMARY KEY (operation_id)
);
CREATE INDEX runs_of_a_lane ON public.lane_runs USING btree (provider, key, model);

create table lanes (
  provider text not null,
  key text not null,
  model text default ''::text not null,
  max_runs integer,
  paused_at timestamp(6) with time zone,
  paused_until timestamp(6) with time zone,
  reason text,
  strikes integer default 0 not null,
  probed_at timestamp(6) with time zone,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  updated_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint lane_max_runs_is_at_least_1 CHECK ((max_runs >= 1)),
  constraint lane_provider_is_known CHECK ((provider = ANY (ARRAY['responses'::text, 'assistants'::text]))),
  constraint lanes_pkey PRIMARY KEY (provider, key, model)
);

create table operation_events (
  id bigint generated always as identity not null,
  operation_id bigint not null,
  thread_id text not null,
  from_status text not null,
  to_status text not null,
  turn bigint,
  attempt integer not null,
  actor text not null,
  code text,
  run_id text,
  retry_at timestamp(6) with time zone,
  detail jsonb,
  at timestamp(6) with time zone default clock_timestamp() not null,
  constraint operation_events_pkey PRIMARY KEY (thread_id, operation_id, id)
);

create table operation_stream (
  operation_id bigint not null,
  first_seq bigint not null,
  last_seq bigint not null,
  events jsonb not null,
  at timestamp(6) with time zone default clock_timestamp() not null,
  constraint operation_stream_pkey PRIMARY KEY (operation_id, first_seq)
) with (autovacuum_vacuum_scale_factor=0.05);
CREATE INDEX streams_by_age ON public.operation_stream USING btree (at) WHERE (first_seq = 1);

create table operation_waiters (
  operation_id bigint not null,
  waiter text not null,
  since timestamp(6) with time zone default clock_timestamp() not null,
  constraint operation_waiters_pkey PRIMARY KEY (operation_id, waiter)
);

create table prunings (
  day date not null,
  policy text not null,
  operations bigint default 0 not null,
  events bigint default 0 not null,
  streams bigint default 0 not null,
  archives bigint default 0 not null,
  first_at timestamp(6) with time zone default clock_timestamp() not null,
  last_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint prunings_pkey PRIMARY KEY (day, policy)
);

create table sweep_positions (
  sweep text not null,
  after text not null,
  constraint sweep_positions_pkey PRIMARY KEY (sweep)
);

create table thread_archives (
  id bigint generated by default as identity not null,
  thread_id text not null,
  generation integer not null,
  operation_id bigint not null,
  provider text not null,
  provider_thread_id text not null,
  user_id text,
  reason text not null,
  messages bigint not null,
  items bigint not null,
  last_item_id text,
  runs bigint not null,
  input_tokens bigint,
  output_tokens bigint,
  metadata jsonb default '{}'::jsonb not null,
  verified_at timestamp(6) with time zone not null,
  archived_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint thread_archives_pkey PRIMARY KEY (id)
);
CREATE INDEX archives_by_age ON public.thread_archives USING btree (archived_at);
CREATE INDEX archives_of_a_thread ON public.thread_archives USING btree (thread_id, generation);
CREATE INDEX archives_of_a_user ON public.thread_archives USING btree (user_id, id) WHERE (user_id IS NOT NULL);

create table thread_generations (
  thread_id text not null,
  generation integer not null,
  provider text not null,
  provider_thread_id text not null,
  messages_before bigint default 0 not null,
  tokens_before bigint default 0 not null,
  carried_over integer default 0 not null,
  copied_from text,
  started_at timestamp(6) with time zone default clock_timestamp() not null,
  ended_at timestamp(6) with time zone,
  ended_by text,
  archive_id bigint,
  deleted_at timestamp(6) with time zone,
  proof jsonb,
  constraint thread_generations_pkey PRIMARY KEY (thread_id, generation)
);
CREATE INDEX generations_by_provider_thread ON public.thread_generations USING btree (provider_thread_id);

create table thread_operations (
  id bigint not null,
  thread_id text not null,
  operation text not null,
  data jsonb default '{}'::jsonb not null,
  status text default 'pending'::text not null,
  priority smallint default 0 not null,
  idempotency_key text,
  retry jsonb,
  user_id text,
  scheduled_at timestamp(6) with time zone,
  if_busy text,
  debounce_ms integer,
  debounce_max_ms integer,
  target_id bigint,
  place bigint,
  turn bigint,
  provider text default ''::text not null,
  head_since timestamp(6) with time zone,
  ready_at timestamp(6) with time zone,
  attempts integer default 0 not null,
  failures integer default 0 not null,
  claimed_by text,
  intent jsonb,
  progress jsonb,
  merges bigint[],
  held_until timestamp(6) with time zone,
  result jsonb,
  error jsonb,
  messages_so_far bigint,
  runs_so_far bigint,
  input_tokens_so_far bigint,
  output_tokens_so_far bigint,
  prev_status text,
  created_by text default ''::text not null,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  updated_at timestamp(6) with time zone default clock_timestamp() not null,
  started_at timestamp(6) with time zone,
  finished_at timestamp(6) with time zone,
  constraint thread_operations_pkey PRIMARY KEY (id)
) with (fillfactor=60, autovacuum_vacuum_scale_factor=0.01, autovacuum_vacuum_insert_scale_factor=0.05);
CREATE INDEX heads_by_readiness ON public.thread_operations USING btree (provider, priority, ready_at, id) WHERE (ready_at IS NOT NULL);
CREATE UNIQUE INDEX idempotency_key_is_unique_per_thread ON public.thread_operations USING btree (thread_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX line_by_place ON public.thread_operations USING btree (thread_id, place) WHERE (place IS NOT NULL);
CREATE UNIQUE INDEX one_active_operation_per_thread ON public.thread_operations USING btree (thread_id) WHERE (status = ANY (ARRAY['processing'::text, 'requires_action'::text]));
CREATE UNIQUE INDEX one_operation_per_turn ON public.thread_operations USING btree (thread_id, turn);
CREATE INDEX operations_beside_the_line ON public.thread_operations USING btree (target_id, id) WHERE ((status = 'pending'::text) AND (place IS NULL));
CREATE INDEX operations_to_arrange ON public.thread_operations USING btree (thread_id, if_busy, place) WHERE ((place IS NOT NULL) AND (turn IS NULL) AND ((if_busy = ANY (ARRAY['reject'::text, 'latest'::text, 'merge'::text, 'interrupt+merge'::text])) OR (debounce_ms IS NOT NULL)));
CREATE INDEX scheduled_operations ON public.thread_operations USING btree (scheduled_at) WHERE (status = 'scheduled'::text);

create table thread_policies (
  name text not null,
  pattern text,
  absolute_ttl interval,
  idle_ttl interval,
  on_expiry text default 'archive_and_delete'::text not null,
  max_messages bigint,
  max_age interval,
  max_tokens bigint,
  carry_over integer default 0 not null,
  delete_rotated boolean default false not null,
  archive_on_delete boolean default false not null,
  reopen boolean default false not null,
  archive_retention interval,
  operation_retention interval,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  updated_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint thread_policies_pattern_key UNIQUE (pattern),
  constraint thread_policies_pkey PRIMARY KEY (name)
);

create table threads (
  id text not null,
  provider text,
  provider_thread_id text,
  last_item_id text,
  last_message_at timestamp(6) with time zone,
  last_turn bigint default 0 not null,
  metadata jsonb default '{}'::jsonb not null,
  on_failure text default 'continue'::text not null,
  if_busy text default 'enqueue'::text not null,
  debounce_ms integer,
  debounce_max_ms integer,
  resumed_turn bigint default 0 not null,
  user_id text,
  session_id text,
  topic text,
  labels jsonb default '{}'::jsonb not null,
  policy text,
  generation integer default 0 not null,
  generation_since timestamp(6) with time zone,
  last_active_at timestamp(6) with time zone default clock_timestamp() not null,
  lifecycle_operation_id bigint,
  ended_before bigint default 0 not null,
  erase_before bigint default 0 not null,
  messages_so_far bigint default 0 not null,
  runs_so_far bigint default 0 not null,
  input_tokens_so_far bigint default 0 not null,
  output_tokens_so_far bigint default 0 not null,
  closed_at timestamp(6) with time zone,
  deleted_at timestamp(6) with time zone,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  updated_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint deleted_thread_is_closed CHECK (((deleted_at IS NULL) OR (closed_at IS NOT NULL))),
  constraint thread_debounce_max_ms_is_up_to_a_day CHECK (((debounce_max_ms >= 1) AND (debounce_max_ms <= 86400000))),
  constraint thread_debounce_ms_is_up_to_an_hour CHECK (((debounce_ms >= 1) AND (debounce_ms <= 3600000))),
  constraint thread_id_has_1_to_255_characters CHECK (((length(id) >= 1) AND (length(id) <= 255))),
  constraint thread_if_busy_is_a_strategy CHECK ((if_busy = ANY (ARRAY['enqueue'::text, 'reject'::text, 'interrupt'::text, 'latest'::text, 'merge'::text, 'interrupt+merge'::text]))),
  constraint thread_keys_have_1_to_255_characters CHECK ((((length(user_id) >= 1) AND (length(user_id) <= 255)) AND ((length(session_id) >= 1) AND (length(session_id) <= 255)) AND ((length(topic) >= 1) AND (length(topic) <= 255)))),
  constraint thread_labels_are_an_object CHECK ((jsonb_typeof(labels) = 'object'::text)),
  constraint thread_on_failure_is_continue_halt_or_cancel_rest CHECK ((on_failure = ANY (ARRAY['continue'::text, 'halt'::text, 'cancel_rest'::text]))),
  constraint thread_provider_is_known CHECK ((provider = ANY (ARRAY['responses'::text, 'assistants'::text]))),
  constraint threads_pkey PRIMARY KEY (id)
) with (fillfactor=80);
CREATE INDEX threads_by_activity ON public.threads USING btree (policy, pattern_of(user_id, session_id, topic), last_active_at) WHERE ((provider_thread_id IS NOT NULL) AND (closed_at IS NULL) AND (lifecycle_operation_id IS NULL));
CREATE INDEX threads_by_generation ON public.threads USING btree (policy, pattern_of(user_id, session_id, topic), generation_since) WHERE ((provider_thread_id IS NOT NULL) AND (closed_at IS NULL) AND (lifecycle_operation_id IS NULL));
CREATE INDEX threads_by_labels ON public.threads USING gin (labels jsonb_path_ops);
CREATE INDEX threads_by_metadata ON public.threads USING gin (metadata jsonb_path_ops);
CREATE INDEX threads_by_provider_thread ON public.threads USING btree (provider_thread_id) WHERE (provider_thread_id IS NOT NULL);
CREATE INDEX threads_in_a_sweep ON public.threads USING btree (lifecycle_operation_id) WHERE (lifecycle_operation_id IS NOT NULL);
CREATE INDEX threads_of_a_session ON public.threads USING btree (session_id, id) WHERE (session_id IS NOT NULL);
CREATE INDEX threads_of_a_topic ON public.threads USING btree (topic, id) WHERE (topic IS NOT NULL);
CREATE INDEX threads_of_a_user ON public.threads USING btree (user_id, id) WHERE (user_id IS NOT NULL);
CREATE INDEX threads_to_erase ON public.threads USING btree (id) WHERE (erase_before > 0);

create table tool_calls (
  operation_id bigint not null,
  call_id text not null,
  thread_id text not null,
  round integer not null,
  type text not null,
  name text not null,
  arguments text not null,
  deadline timestamp(6) with time zone not null,
  claimed_by text,
  attempts integer default 0 not null,
  output jsonb,
  is_error boolean default false not null,
  answered_by text,
  created_at timestamp(6) with time zone default clock_timestamp() not null,
  answered_at timestamp(6) with time zone,
  constraint tool_calls_pkey PRIMARY KEY (operation_id, call_id)
);
CREATE INDEX open_tool_calls ON public.tool_calls USING btree (name, created_at) WHERE (output IS NULL);

create table unfinished_archives (
  archive_id bigint not null,
  operation_id bigint not null,
  thread_id text not null,
  begun_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint unfinished_archives_pkey PRIMARY KEY (archive_id)
);

create table unsettled_outcomes (
  operation_id bigint not null,
  attempts integer not null,
  claimed_by text not null,
  outcome jsonb not null,
  noted_at timestamp(6) with time zone default clock_timestamp() not null,
  constraint unsettled_outcomes_pkey PRIMARY KEY (operation_id)
);

create table user_runs (
  operation_id bigint not null,
  user_id text not null,
  since timestamp(6) with time zone default clock_timestamp() not null,
  constraint user_runs_pkey PRIMARY KEY (operation_id)
);
CREATE INDEX runs_of_a_user ON public.user_runs USING btree (user_id);

CREATE OR REPLACE FUNCTION public.add_archive_page(p_dispatcher text, p_id bigint, p_attempts integer, p_items jsonb, p_after text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_archiving jsonb;
  v_archive_id bigint;
  v_position bigint;
  v_added bigint;
begin
  select o.progress -> 'archiving' into v_archiving from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_archive_id := v_archiving -> 'archive_id';
  v_position := v_archiving -> 'position';
  insert into archived_messages (archive_id, position, item_id, type, role, text, content, attachments, run_id, metadata, said_at, item)
  select v_archive_id, v_position + f.n, f.item_id, f.type, f.role, f.text, f.content, f.attachments, f.run_id, f.metadata, f.said_at, f.item
    from fresh_items(v_archive_id, v_position, p_items) as f;
  get diagnostics v_added = row_count;
  v_archiving := v_archiving || jsonb_build_object('after', p_after, 'position', v_position + v_added);
  update thread_operations o set progress = o.progress || jsonb_build_object('archiving', v_archiving) where o.id = p_id;
  return jsonb_build_object('archiving', v_archiving);
end $function$;

CREATE OR REPLACE FUNCTION public.adopt_provider_thread(p_dispatcher text, p_id bigint, p_attempts integer, p_provider_thread_id text, OUT held boolean, OUT in_use_by text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '500ms'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
declare
  v_thread text;
begin
  perform pg_advisory_xact_lock(hashtextextended(current_schema() || ' inturn provider thread ' || p_provider_thread_id, 0));
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  held := found;
  in_use_by := (select t.id from threads t where t.provider_thread_id = p_provider_thread_id and t.id <> v_thread limit 1);
  if held and in_use_by is null then
    perform from threads t where t.id = v_thread for no key update nowait;
    update threads t set provider_thread_id = p_provider_thread_id, last_item_id = null, last_message_at = null, updated_at = clock_timestamp()
     where t.id = v_thread and t.provider_thread_id is distinct from p_provider_thread_id
       and exists (select from thread_operations o where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts);
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.adopt_threads(p_provider text, p_provider_thread_ids text[], p_user_id text DEFAULT NULL::text, p_session_id text DEFAULT NULL::text, p_topic text DEFAULT NULL::text, p_labels jsonb DEFAULT '{}'::jsonb)
 RETURNS TABLE(thread_id text, operation_id bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
#variable_conflict use_column
declare
  v_wrong text;
begin
  if p_provider not in ('responses', 'assistants') then
    raise check_violation using
      constraint = 'thread_provider_is_known',
      message = format('there is no provider %L', p_provider),
      hint = 'Write ''responses'', ''assistants'', or null where the shape of each id tells.';
  end if;
  perform check_thread_keys(p_user_id, p_session_id, p_topic, p_labels);
  v_wrong := (select left(coalesce(given.id, 'null'), 60)
                from unnest(p_provider_thread_ids) as given (id)
               cross join lateral nullif(provider_of(given.id, '', '{}', null), '') as by_shape
               where (given.id ~ '^\S{1,255}$' and coalesce(by_shape, p_provider) = coalesce(p_provider, by_shape)) is not true
               limit 1);
  if v_wrong is not null then
    raise check_violation using
      constraint = 'provider_thread_id_is_one',
      message = format('%L is no id of a provider thread%s', v_wrong, coalesce(' of ' || p_provider, '')),
      hint = 'Write the ids that the provider gave: conv_… of responses, thread_… of assistants; with their provider where they look otherwise.';
  end if;
  if num_nonnulls(p_user_id, p_session_id, p_topic) > 0 or p_labels <> '{}' then
    -- In one order, so that no two of these wait for each other.
    insert into threads (id, user_id, session_id, topic, labels)
    select distinct given.id, p_user_id, p_session_id, p_topic, merged_labels('{}', p_labels)
      from unnest(p_provider_thread_ids) as given (id) order by given.id
        on conflict (id) do update
           set user_id = coalesce(threads.user_id, excluded.user_id),
               session_id = coalesce(threads.session_id, excluded.session_id),
               topic = coalesce(threads.topic, excluded.topic),
               labels = excluded.labels || threads.labels;
  end if;
  return query
    insert into thread_operations (thread_id, operation, data, priority, idempotency_key)
    select given.id, 'create_thread',
           jsonb_build_object('provider', provider_of(given.id, '', '{}', p_provider), 'provider_thread_id', given.id), -10, 'adopt'
      from (select g.id, min(g.n) as n from unnest(p_provider_thread_ids) with ordinality as g (id, n) group by g.id) as given
     order by given.n
        on conflict (thread_id, idempotency_key) where idempotency_key is not null do nothing
    returning thread_id, id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked('one of these threads');
end $function$;

CREATE OR REPLACE FUNCTION public.advance_erasure(p_id bigint, p_limit integer)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_erasure erasures;
  v_seen record;
  v_ready bigint[];
  v_threads text[];
  v_of_others bigint;
  v_archive bigint;
begin
  select * into v_erasure from erasures e where e.id = p_id and e.finished_at is null for update skip locked;
  if not found then
    return 'done';
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  if v_erasure.progress ->> 'xid' is null then
    -- Drawn now, it is above that of every transaction that has drawn a number below up_to.
    update erasures e set progress = e.progress || jsonb_build_object('xid', pg_current_xact_id()::text) where e.id = p_id;
    return 'more';
  end if;
  if pg_snapshot_xmin(pg_current_snapshot())::text::numeric < (v_erasure.progress ->> 'xid')::numeric then
    return 'waits';
  end if;

  -- All operations there were, in their order, so that no index is needed for what is asked once in a while.
  if (v_erasure.progress ->> 'looked_at')::bigint < (v_erasure.progress ->> 'up_to')::bigint then
    select max(o.id) as last, count(*) as count,
           coalesce(jsonb_agg(o.id) filter (where o.user_id = v_erasure.user_id), '[]') as theirs into v_seen
      from (select l.id, l.user_id from thread_operations l
             where l.id > (v_erasure.progress ->> 'looked_at')::bigint and l.id < (v_erasure.progress ->> 'up_to')::bigint
             order by l.id limit p_limit) as o;
    update erasures e
       set progress = e.progress || jsonb_build_object(
             'looked_at', case when v_seen.count < p_limit then e.progress -> 'up_to' else to_jsonb(v_seen.last) end,
             'unfinished', e.progress -> 'unfinished' || v_seen.theirs)
     where e.id = p_id;
    return 'more';
  end if;

  v_ready := array(
    select o.id from thread_operations o
     where o.id = any (array(select jsonb_array_elements_text(v_erasure.progress -> 'unfinished')::bigint)) and o.finished_at is not null
       -- Whoever takes its message along reads it until he is over.
       and not exists (select from thread_operations m
                        where o.error ->> 'code' = 'merged' and m.id = (o.error ->> 'operation_id')::bigint and m.finished_at is null)
     limit 1000 for update of o skip locked);
  select count(*), coalesce(array_agg(distinct o.thread_id), '{}') into v_of_others, v_threads
    from thread_operations o left join threads t on t.id = o.thread_id
   where o.id = any (v_ready) and t.user_id is distinct from v_erasure.user_id;
  perform erase_operations(v_ready);
  update erasures e
     set progress = e.progress || jsonb_build_object(
           'operations', (e.progress ->> 'operations')::bigint + v_of_others,
           'others', (select coalesce(jsonb_agg(distinct thread.id), '[]') from (
                        select jsonb_array_elements_text(e.progress -> 'others') as id union select unnest(v_threads)) as thread),
           'unfinished', (select coalesce(jsonb_agg(left_over.id), '[]') from (
                            select jsonb_array_elements_text(e.progress -> 'unfinished')::bigint as id) as left_over
                           where exists (select from thread_operations o where o.id = left_over.id)
                             and not left_over.id = any (v_ready)))
   where e.id = p_id and v_erasure.progress -> 'unfinished' <> '[]'
  returning * into v_erasure;
  if v_ready <> '{}' then
    return 'more';
  end if;

  select * into strict v_erasure from erasures e where e.id = p_id;
  select a.id into v_archive from thread_archives a where a.user_id = v_erasure.user_id limit 1;
  if v_archive is not null then
    perform erase_archive(v_archive);
    update erasures e
       set progress = e.progress || jsonb_build_object('archives', (e.progress ->> 'archives')::bigint + 1)
     where e.id = p_id;
    return 'more';
  end if;
  if v_erasure.progress -> 'unfinished' <> '[]'
     or exists (select from thread_operations o
                 where o.id = any (array(select jsonb_array_elements_text(v_erasure.progress -> 'deletions')::bigint)) and o.finished_at is null)
     or exists (select from threads t where t.user_id = v_erasure.user_id and t.erase_before > 0) then
    return 'waits';
  end if;
  update erasures e set report = erasure_report(e), finished_at = clock_timestamp() where e.id = p_id;
  return 'done';
end $function$;

CREATE OR REPLACE FUNCTION public.answer_open_calls(p_dispatcher text, p_id bigint, p_attempts integer, p_output jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '1s'
 SET enable_seqscan TO 'off'
AS $function$
begin
  perform from thread_operations o
    where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return false;
  end if;
  update tool_calls c
     set output = p_output, is_error = true, answered_by = p_dispatcher, answered_at = clock_timestamp()
   where c.operation_id = p_id and c.output is null;
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.answer_tool_call(p_dispatcher text, p_operation_id bigint, p_call_id text, p_attempts integer, p_output jsonb, p_is_error boolean)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '20ms'
 SET enable_seqscan TO 'off'
AS $function$
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  perform from thread_operations o where o.id = p_operation_id for update skip locked;
  if not found then
    return case when exists (select from thread_operations o where o.id = p_operation_id) then 'locked' else 'late' end;
  end if;
  update tool_calls c
     set output = p_output, is_error = p_is_error, answered_by = p_dispatcher, answered_at = clock_timestamp()
   where c.operation_id = p_operation_id and c.call_id = p_call_id
     and c.output is null and c.claimed_by = p_dispatcher and c.attempts = p_attempts;
  if not found then
    return 'late';
  end if;
  perform go_on_where_answered(array[p_operation_id]);
  return 'stored';
exception when lock_not_available or deadlock_detected then
  return 'locked';
end $function$;

CREATE OR REPLACE FUNCTION public.append_to_streams(p_dispatchers text[], p_ids bigint[], p_attempts integer[], p_events jsonb[])
 RETURNS TABLE(id bigint, written boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '100ms'
AS $function$
begin
  -- It need not survive a crash of the server by itself: the commit that settles the operation comes later.
  perform set_config('synchronous_commit', 'off', true);
  return query
  with piece as (
    select o.id, p.events,
           coalesce((select s.last_seq from operation_stream s
                      where s.operation_id = o.id order by s.first_seq desc limit 1), 0) as said
      from unnest(p_dispatchers, p_ids, p_attempts, p_events) as p (dispatcher, id, attempts, events)
      join thread_operations o on o.id = p.id and o.claimed_by = p.dispatcher and o.attempts = p.attempts
  ), appended as (
    insert into operation_stream (operation_id, first_seq, last_seq, events)
    select piece.id, piece.said + 1, piece.said + jsonb_array_length(piece.events), piece.events from piece
        on conflict do nothing
    returning operation_id
  )
  select piece.id, appended.operation_id is not null
    from piece left join appended on appended.operation_id = piece.id;
end $function$;

CREATE OR REPLACE FUNCTION public.apply_tool_outputs(p_dispatcher text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_row thread_operations;
  v_target_id bigint;
  v_status text;
  v_given text[];
  v_open text[];
  v_goes_on boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_row in
    select * from thread_operations o
     where o.status = 'pending' and o.place is null and o.operation = 'submit_tool_outputs'
     order by o.id limit 1000 for update skip locked
  loop
    select o.id, o.status into v_target_id, v_status from thread_operations o where o.id = v_row.target_id for update skip locked;
    continue when v_target_id is null and exists (select from thread_operations o where o.id = v_row.target_id);
    -- Whoever changed the row since its INSERT need not have been as careful.
    v_given := array(select entry ->> 'call_id' from jsonb_array_elements(v_row.data -> 'outputs') as given (entry)
                      where jsonb_typeof(entry -> 'output') in ('string', 'array'));
    v_open := array(select c.call_id from tool_calls c
                     where c.operation_id = v_target_id and c.call_id = any (v_given) and c.output is null
                     order by c.created_at for update skip locked);
    continue when exists (select from tool_calls c
                           where c.operation_id = v_target_id and c.call_id = any (v_given) and not c.call_id = any (v_open)
                             and c.output is null);
    update tool_calls c
       set output = given.entry -> 'output', answered_by = v_row.created_by, answered_at = clock_timestamp()
      from jsonb_array_elements(v_row.data -> 'outputs') as given (entry)
     where c.operation_id = v_target_id and c.call_id = given.entry ->> 'call_id' and c.call_id = any (v_open);
    if v_open = '{}' then
      update thread_operations o
         set status = 'failed', finished_at = clock_timestamp(),
             error = jsonb_build_object('code', 'calls_are_answered', 'operation_id', v_row.target_id, 'message',
                       format('Operation %s (%s) waits for none of these calls any more.', v_row.target_id, coalesce(v_status, 'gone')))
       where o.id = v_row.id;
    else
      update thread_operations o
         set status = 'completed', finished_at = clock_timestamp(),
             result = jsonb_build_object('operation_id', v_target_id, 'call_ids', to_jsonb(v_open),
               'missing', array(select c.call_id from tool_calls c
                                 where c.operation_id = v_target_id and c.output is null order by c.created_at))
               || case when cardinality(v_open) < cardinality(v_given) then jsonb_build_object('ignored',
                    array(select g.call_id from unnest(v_given) as g (call_id) where not g.call_id = any (v_open))) else '{}' end
       where o.id = v_row.id;
      v_goes_on := go_on_where_answered(array[v_target_id]) or v_goes_on;
    end if;
    perform notify_waiters(array[v_row.id]);
  end loop;
  return v_goes_on;
end $function$;

CREATE OR REPLACE FUNCTION public.archive_lacks(p_archive_id bigint, p_thread_id text, p_provider_thread_id text, p_newest text, p_settle_ms bigint)
 RETURNS boolean
 LANGUAGE sql
 STABLE
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
  with latest as (
    select o.turn, o.finished_at, o.result from thread_operations o
     where o.thread_id = p_thread_id and o.turn is not null order by o.turn desc limit 1000
  ), recent as (
    select l.result ->> 'message_id' as message_id, l.result #>> '{run,id}' as run_id,
           case when l.result #>> '{run,status}' in ('completed', 'incomplete') then nullif(l.result ->> 'text', '') end as answer,
           row_number() over (order by l.turn desc) as n
      from latest l
     where l.finished_at > clock_timestamp() - p_settle_ms * interval '1 millisecond'
       and l.result ->> 'provider_thread_id' = p_provider_thread_id
  ), tail as (
    select m.item_id, m.run_id, m.text from archived_messages m
     where m.archive_id = p_archive_id order by m.position desc limit 5000
  )
  select exists (select from recent)
     and p_newest is not null and not exists (select from tail t where t.item_id = p_newest)
      or exists (select from recent r
                  where r.message_id is not null and not r.message_id in (select t.item_id from tail t))
      or exists (select from recent r
                  where r.answer is not null and r.n <= 100
                    and not exists (select from tail t
                                     where case when t.run_id is not null then t.run_id = r.run_id
                                                else t.text <> '' and starts_with(r.answer, t.text) end))
$function$;

CREATE OR REPLACE FUNCTION public.arrange_line(p_thread_id text)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
declare
  v_first thread_operations;
  v_is_quiet boolean := false;
  v_superseded integer;
begin
  loop
    select * into v_first from thread_operations o
     where o.thread_id = p_thread_id and o.place is not null order by o.place limit 1;
    if not found then
      return null;
    end if;
    perform refuse_behind(v_first);
    if v_first.turn is not null then
      return case when v_first.status <> 'processing' and v_first.ready_at <= clock_timestamp() then v_first.id end;
    end if;
    perform from thread_operations o
      where o.id = v_first.id and o.place is not null and o.turn is null for update skip locked;
    if not found then
      return null;
    end if;
    if not may_start(v_first.id) then
      return v_first.id; -- which start_operations refuses, and the claim sees to it
    end if;
    continue when refuse_late(v_first);
    -- Whoever takes the place of the first has waited long enough with it.
    if v_first.debounce_ms is not null and not v_is_quiet and still_debounces(v_first) then
      return null;
    end if;
    v_is_quiet := true;
    v_superseded := supersede_waiting(p_thread_id);
    if v_superseded = 1000 then
      perform mark_heads((next_in_line(array[p_thread_id])).waiting);
      return null;
    end if;
    continue when v_superseded > 0;
    return coalesce(merge_waiting(v_first), v_first.id);
  end loop;
end $function$;

CREATE OR REPLACE FUNCTION public.arranged(p_heads bigint[])
 RETURNS bigint[]
 LANGUAGE plpgsql
AS $function$
declare
  v_lines text[] := lines_to_arrange(p_heads);
begin
  if v_lines is null then
    return p_heads;
  end if;
  return array(select o.id from thread_operations o where o.id = any (p_heads) and not o.thread_id = any (v_lines))
      || array_remove(array(
           select arrange_line(line.thread_id) from (select distinct unnest(v_lines)) as line (thread_id)), null);
end $function$;

CREATE OR REPLACE FUNCTION public.arrive()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
  if new.status = 'failed' then
    insert into operation_events (operation_id, thread_id, from_status, to_status, attempt, actor, code, detail)
    values (new.id, new.thread_id, 'pending', new.status, 0, session_actor(), new.error ->> 'code', new.error - 'code' - 'message');
  elsif new.operation = 'delete_thread' then
    perform make_way(array[new.id]);
  elsif new.status = 'pending' then
    perform interrupt_active(new);
  end if;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.arrive_when_due(p_id bigint)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_row thread_operations;
begin
  select * into v_row from thread_operations o where o.id = p_id;
  perform interrupt_active(v_row);
  v_row := refused_if_busy(v_row);
  if v_row.status = 'failed' then
    update thread_operations o set status = 'failed', place = null, finished_at = clock_timestamp(), error = v_row.error
     where o.id = p_id;
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.begin_archive(p_dispatcher text, p_id bigint, p_attempts integer, p_provider_thread_id text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
  v_id bigint := nextval(pg_get_serial_sequence('thread_archives', 'id'));
  v_before jsonb;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_before := v_operation.progress -> 'archiving';
  insert into unfinished_archives (archive_id, operation_id, thread_id) values (v_id, p_id, v_operation.thread_id);
  v_noted := jsonb_build_object('archiving', jsonb_build_object(
    'archive_id', v_id, 'provider_thread_id', p_provider_thread_id, 'turn', v_operation.turn, 'after', null, 'position', 0,
    'since', case when (v_before ->> 'turn')::bigint = v_operation.turn and v_before ->> 'provider_thread_id' = p_provider_thread_id
                  then v_before -> 'since' else to_jsonb(clock_timestamp()) end));
  update thread_operations o set progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $function$;

CREATE OR REPLACE FUNCTION public.begin_batch(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_most integer)
 RETURNS TABLE(id bigint, data jsonb)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_thread text;
  v_behind bigint[];
  v_free bigint[];
  v_intent jsonb := jsonb_build_object('at', clock_timestamp()) || p_intent;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return;
  end if;
  p_most := least(p_most, most_before_rotation(v_thread));
  v_behind := array(
    select o.id from thread_operations o
     where o.thread_id = v_thread and o.place > started_place() order by o.place limit p_most - 1);
  if lines_to_arrange(array[p_id]) is not null then
    v_behind := '{}'; -- some of them may be merged, superseded or wait for a pause
  end if;
  v_free := array(
    select o.id from thread_operations o
     where o.id = any (v_behind)
       and o.operation = 'add_message' and o.status = 'pending' and o.place is not null and o.attempts = 0
       and num_nonnulls(o.intent, o.progress, o.merges) = 0
       and coalesce(o.ready_at <= clock_timestamp(), true) and cancellation_of(o.id) is null
       for update skip locked);
  v_behind := v_behind[:coalesce((
    select min(b.n) - 1 from unnest(v_behind) with ordinality as b (id, n) where not b.id = any (v_free)), p_most)];
  if v_behind <> '{}' then
    v_intent := v_intent || jsonb_build_object('batch', p_id || v_behind);
    update thread_operations o
       set intent = v_intent || jsonb_build_object('place', o.place), place = started_place() + b.n
      from unnest(v_behind) with ordinality as b (id, n)
     where o.id = b.id;
  end if;
  update thread_operations o set intent = v_intent where o.id = p_id;
  return query
    select o.id, o.data from unnest(p_id || v_behind) with ordinality as b (id, n)
      join thread_operations o on o.id = b.id order by b.n;
end $function$;

CREATE OR REPLACE FUNCTION public.busy_error(p_operation_id bigint)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select jsonb_build_object('code', 'thread_busy', 'operation_id', p_operation_id,
    'message', format('The thread was busy with operation %s, and if_busy is reject.', p_operation_id))
$function$;

CREATE OR REPLACE FUNCTION public.cancel_holds(p_dispatcher text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_hold record;
  v_found boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_hold in
    select o.id, cancelled_by(cancellation_of(o.id)) as error
      from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run' and o.held_until is not null
     limit 100 for update of o skip locked
  loop
    v_found := end_hold(v_hold.id, 'cancelled', v_hold.error) or v_found;
  end loop;
  if v_found then
    perform wake_dispatchers();
  end if;
  return v_found;
end $function$;

CREATE OR REPLACE FUNCTION public.cancel_rest(p_threads text[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_failure record;
  v_ids bigint[];
begin
  for v_failure in
    select t.id as thread_id, failure.operation_id, failure.failed_at
      from threads t cross join lateral unresumed_failure(t.id) as failure
     where t.id = any (p_threads) and t.on_failure = 'cancel_rest'
  loop
    v_ids := array(
      select o.id from thread_operations o
       where o.thread_id = v_failure.thread_id and o.place is not null and o.turn is null and o.operation <> 'delete_thread'
         and stood_in_line(o.id, o.thread_id, o.place, o.created_at, v_failure.failed_at) and not is_sent_along(o)
       order by o.place limit 1000 for update skip locked);
    update thread_operations o
       set status = 'cancelled', place = null, ready_at = null, finished_at = clock_timestamp(),
           error = jsonb_build_object('code', 'cancelled_after_failure', 'message',
                     format('Operation %s of this thread failed, and on_failure is cancel_rest.', v_failure.operation_id))
     where o.id = any (v_ids);
    perform notify_waiters(v_ids);
  end loop;
end $function$;

CREATE OR REPLACE FUNCTION public.cancellation_of(p_id bigint)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
AS $function$
  select jsonb_build_object('operation_id', c.id, 'interrupted_by', c.data -> 'interrupted_by', 'reason', c.data -> 'reason')
    from thread_operations c
   where c.target_id = p_id and c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
   order by c.id limit 1
$function$;

CREATE OR REPLACE FUNCTION public.cancelled_by(p_cancellation jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case
    when p_cancellation ->> 'interrupted_by' is null
      then jsonb_build_object('code', 'cancelled', 'operation_id', p_cancellation -> 'operation_id', 'message',
             format('Cancelled by operation %s', p_cancellation -> 'operation_id') || said.reason)
    else jsonb_build_object('code', 'interrupted', 'operation_id', p_cancellation -> 'interrupted_by', 'message',
           format('Interrupted by operation %s', p_cancellation -> 'interrupted_by') || said.reason)
    end
    from (select coalesce(': ' || (p_cancellation ->> 'reason'), '.') as reason) as said
   where p_cancellation is not null
$function$;

CREATE OR REPLACE FUNCTION public.check_policy()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
declare
  v_shortest interval := least(new.absolute_ttl, new.idle_ttl, new.max_age, new.archive_retention, new.operation_retention);
  v_longest interval := greatest(new.absolute_ttl, new.idle_ttl, new.max_age, new.archive_retention, new.operation_retention);
begin
  if length(new.name) not between 1 and 255 then
    raise check_violation using
      constraint = 'policy_name_has_1_to_255_characters',
      message = format('the name of a policy must have 1 to 255 characters, not %s', length(new.name)),
      hint = 'Write a name of yours, such as ''users''.';
  end if;
  if new.pattern not in ('user', 'session', 'topic', 'user+session', 'user+topic', 'session+topic', 'user+session+topic', 'none', 'any') then
    raise check_violation using
      constraint = 'policy_pattern_is_known',
      message = format('%L is no pattern', left(new.pattern, 60)),
      hint = 'Write the keys that its threads have, of user, session and topic in this order and joined by +, such as ''user+topic''; ''none'' for threads without any, ''any'' for all that have no other policy, or null where threads name it.';
  end if;
  if new.on_expiry not in ('archive_and_delete', 'archive', 'delete') then
    raise check_violation using
      constraint = 'policy_on_expiry_is_known',
      message = format('on_expiry must say what becomes of what has expired, not %L', left(new.on_expiry, 60)),
      hint = 'Write archive_and_delete, archive or delete.';
  end if;
  if v_shortest <= interval '0' or v_longest > interval '1000 years' then
    raise check_violation using
      constraint = 'policy_times_are_positive',
      message = format('a time of a policy must be more than nothing and at most 1000 years, not %s',
                       case when v_shortest <= interval '0' then v_shortest else v_longest end),
      hint = 'Write for example ''30 days'', or null for ever.';
  end if;
  if least(new.max_messages, new.max_tokens) < 1 then
    raise check_violation using
      constraint = 'policy_limits_are_at_least_1',
      message = format('max_messages and max_tokens must be 1 or more, not %s', least(new.max_messages, new.max_tokens)),
      hint = 'Write how many a provider thread may hold before it is rotated, or null for any number.';
  end if;
  if new.carry_over not between 0 and 100 then
    raise check_violation using
      constraint = 'policy_carry_over_is_0_to_100',
      message = format('carry_over must be 0 to 100, not %s', new.carry_over),
      hint = 'Write how many of the last messages the next provider thread begins with.';
  end if;
  if new.carry_over >= new.max_messages then
    raise check_violation using
      constraint = 'policy_carries_over_less_than_it_rotates_at',
      message = format('a provider thread that begins with %s messages is rotated at %s at once', new.carry_over, new.max_messages),
      hint = 'Write a smaller carry_over, or a larger max_messages.';
  end if;
  if tg_op = 'UPDATE' then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end $function$;

CREATE OR REPLACE FUNCTION public.check_retry_policy(p_retry jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
AS $function$
declare
  v_classes text[] := '{connection,server,run,internal}';
  v_highest jsonb := '{"max_attempts": 1000, "base_ms": 86400000, "max_ms": 86400000}';
  v_problem text;
begin
  if jsonb_typeof(p_retry) <> 'object' then
    v_problem := '"retry" must be an object';
  else
    select case
             when jsonb_typeof(place.limits) <> 'object' then format('"%s" must be an object', place.class)
             when v_highest ? one.key then
               format('"%s" must be a whole number from 1 to %s', concat_ws('.', place.class, one.key), v_highest ->> one.key)
             else format('unknown key "%s"', concat_ws('.', place.class, left(one.key, 60))) end
      into v_problem
      from (select null as class, p_retry - v_classes as limits
            union all
            select class, p_retry -> class from unnest(v_classes) as class where p_retry ? class) as place
      left join lateral jsonb_each(case jsonb_typeof(place.limits) when 'object' then place.limits end) as one on true
     where jsonb_typeof(place.limits) <> 'object'
        or not v_highest ? one.key
        -- strict: a list of one number is no number
        or not coalesce(one.value @@ format('strict $ %% 1 == 0 && $ >= 1 && $ <= %s', coalesce(v_highest ->> one.key, '0'))::jsonpath, one.key is null)
     order by place.class nulls first, one.key
     limit 1;
  end if;
  if v_problem is not null then
    raise check_violation using
      constraint = 'retry_policy_is_valid',
      message = v_problem,
      hint = 'Leave retry out, or write limits for all errors and for classes of them (connection, server, run, internal): '
        '{"max_attempts": 5, "base_ms": 1000, "max_ms": 60000, "run": {"max_attempts": 2}}.';
  end if;
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.check_thread_keys(p_user_id text, p_session_id text, p_topic text, p_labels jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_id text := thread_key(p_user_id, p_session_id, p_topic);
begin
  if length(p_user_id) not between 1 and 255 or length(p_session_id) not between 1 and 255 or length(p_topic) not between 1 and 255 then
    raise check_violation using
      constraint = 'thread_keys_have_1_to_255_characters',
      message = 'the user_id, session_id and topic of a thread must have 1 to 255 characters each',
      hint = 'Write an id or a name of yours as text, and null for a key that the thread does not have.';
  end if;
  if length(v_id) > 255 then
    raise check_violation using
      constraint = 'thread_id_has_1_to_255_characters',
      message = format('the keys make an id of %s characters, and it must have 1 to 255', length(v_id)),
      hint = 'Write shorter keys. Each ":" and "%" in a key takes three characters of the id.';
  end if;
  if jsonb_typeof(p_labels) <> 'object' then
    raise check_violation using
      constraint = 'thread_labels_are_an_object',
      message = format('labels must be an object, not %s', jsonb_typeof(p_labels)),
      hint = 'Write for example ''{"team": "red"}''.';
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.check_thread_policy()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  if not exists (select from thread_policies p where p.name = new.policy) then
    raise check_violation using
      constraint = 'thread_policy_exists',
      message = format('there is no policy %L', new.policy),
      hint = 'Write the name of a row of thread_policies, or null for the policy of the thread''s pattern.';
  end if;
  return new;
end $function$;

CREATE OR REPLACE FUNCTION public.check_tool_outputs(p_row thread_operations)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_provider text;
  v_given text[];
  v_wrong text[];
  v_open text;
  v_other bigint;
begin
  select o.provider into v_provider from thread_operations o where o.id = p_row.target_id;
  select array_agg(entry ->> 'call_id') filter (where is_fine), array_agg(n) filter (where is_fine is not true)
    into v_given, v_wrong
    from (select entry, n, case when jsonb_typeof(entry) = 'object' then
                   entry - '{call_id,output}'::text[] = '{}' and jsonb_typeof(entry -> 'call_id') = 'string' and entry ->> 'call_id' <> ''
                   and case jsonb_typeof(entry -> 'output')
                         when 'string' then true
                         when 'array' then v_provider is distinct from 'assistants' and entry -> 'output' <> '[]'
                           and not jsonb_path_exists(entry -> 'output', 'strict $[*] ? (@.type() != "object")')
                       end end as is_fine
            from jsonb_array_elements(p_row.data -> 'outputs') with ordinality as given (entry, n)) as checked;
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'tool_outputs_are_well_formed',
      message = format('entry %s of outputs is not of the form {"call_id": …, "output": …}', v_wrong[1]),
      hint = case when v_provider = 'assistants' then 'Write the output as text: {"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}.'
        else 'Write the output as text, {"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}, or as a list of content parts.' end;
  end if;
  v_wrong := array(select g.call_id from unnest(v_given) as g (call_id) group by 1 having count(*) > 1);
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('call %s has two outputs', v_wrong[1]),
      hint = 'Write one entry per call.';
  end if;

  select string_agg(format('%s (%s)', c.call_id, c.name), ', ' order by c.created_at) into v_open
    from tool_calls c where c.operation_id = p_row.target_id and c.output is null;
  v_wrong := array(select g.call_id from unnest(v_given) as g (call_id)
                    where not exists (select from tool_calls c where c.operation_id = p_row.target_id and c.call_id = g.call_id));
  if v_open is null and cardinality(v_wrong) = cardinality(v_given) then
    raise check_violation using
      constraint = 'thread_requires_action',
      message = format('no operation of thread %s requires action', p_row.thread_id),
      hint = 'What waits for an output: SELECT thread_id, call_id, name, arguments FROM tool_calls WHERE output IS NULL;';
  end if;
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_was_asked',
      message = format('operation %s did not ask for %s', p_row.target_id, array_to_string(v_wrong, ', ')),
      hint = 'Open are: ' || coalesce(v_open, 'none') || '.';
  end if;
  v_wrong := array(select c.call_id from tool_calls c
                    where c.operation_id = p_row.target_id and c.call_id = any (v_given) and c.output is not null);
  if v_wrong <> '{}' then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('call %s of operation %s is answered already', array_to_string(v_wrong, ', '), p_row.target_id),
      hint = 'Open are: ' || coalesce(v_open, 'none') || '.';
  end if;
  select o.id, entry ->> 'call_id' into v_other, v_open
    from thread_operations o, jsonb_array_elements(o.data -> 'outputs') as given (entry)
   where o.target_id = p_row.target_id and o.status = 'pending' and o.place is null
     and o.operation = 'submit_tool_outputs' and entry ->> 'call_id' = any (v_given)
   limit 1;
  if found then
    raise check_violation using
      constraint = 'call_is_answered_once',
      message = format('operation %s answers call %s already', v_other, v_open),
      hint = format('To answer it otherwise, cancel that one first, if it is still pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', v_other);
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.claim_heads(p_dispatcher text, p_free integer, p_providers text[], p_default_provider text, p_priorities smallint[], p_floors timestamp with time zone[], OUT claimed text[], OUT met integer, OUT floors timestamp with time zone[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_nth integer;
  v_heads bigint[] := '{}';
  v_found bigint[];
  v_oldest timestamptz;
  v_id bigint;
  v_threads text[];
  v_patience text;
begin
  floors := p_floors;
  begin
    for v_nth in 1..cardinality(p_priorities) loop
      -- The order by and limit stand below the lock: rows that somebody holds do not count.
      select array_agg(head.id order by head.ready_at, head.id), min(head.ready_at) into v_found, v_oldest
        from unnest(p_providers) as p (provider)
       cross join lateral (
         select h.id, h.ready_at from thread_operations h
          where h.ready_at is not null and h.provider = p.provider and h.priority = p_priorities[v_nth]
            and h.ready_at >= coalesce(p_floors[v_nth], '-infinity') and h.ready_at <= v_now
          order by h.ready_at, h.id limit p_free
            for update skip locked) as head;
      -- A transaction that marked itself a second ago may commit only now.
      floors[v_nth] := coalesce(v_oldest, v_now) - interval '1 second';
      v_heads := (v_heads || coalesce(v_found, '{}'))[:p_free];
      exit when cardinality(v_heads) = p_free;
    end loop;
    if v_heads <> '{}' then
      perform create_missing_threads(v_heads, p_default_provider);
      claimed := start_operations(p_dispatcher, arranged(v_heads), p_default_provider);
    end if;
  exception when unique_violation or deadlock_detected or lock_not_available then
    -- One of them met somebody else's transaction. One by one, so that only that one waits.
    claimed := null;
    v_patience := current_setting('lock_timeout');
    perform set_config('lock_timeout', '1ms', true);
    foreach v_id in array v_heads loop
      begin
        if exists (select from thread_operations o
                    where o.id = v_id and o.ready_at <= v_now for update skip locked) then
          perform create_missing_threads(array[v_id], p_default_provider);
          claimed := claimed || start_operations(p_dispatcher, arranged(array[v_id]), p_default_provider);
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        update thread_operations o set ready_at = clock_timestamp() + interval '250 milliseconds'
         where o.id = (select l.id from thread_operations l where l.id = v_id and l.ready_at is not null for update skip locked);
      end;
    end loop;
    perform set_config('lock_timeout', v_patience, true);
  end;
  met := cardinality(v_heads);

  if coalesce(cardinality(claimed), 0) < met then
    -- Marks that lead to nobody who may be served: on operations that a failure before them cancels; in
    -- halted lines; and on those that are not the first (two overlapping inserts both saw an empty line).
    -- They come off, and the first of each line gets its own.
    v_threads := array(select distinct o.thread_id from thread_operations o where o.id = any (v_heads));
    perform cancel_rest(v_threads);
    -- One that deletes the conversation may have met somebody who was being started.
    perform make_way(v_heads);
    update thread_operations o set ready_at = null
     where o.id = any (array(select l.id from thread_operations l where l.id = any (v_heads) for update skip locked))
       and o.status = 'pending' and o.ready_at is not null
       and (o.id <> (select f.id from thread_operations f
                      where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1)
            or o.operation <> 'delete_thread' and line_is_halted(o.thread_id));
    if mark_heads((next_in_line(v_threads)).waiting) > 0 then
      perform wake_dispatchers();
    end if;
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.claim_tool_calls(p_dispatcher text, p_names text[], p_held_operations bigint[], p_held_calls text[], p_limit integer)
 RETURNS TABLE(operation_id bigint, call_id text, thread_id text, operation text, type text, name text, arguments text, attempts integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '20ms'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_others text[] := array(select d.id from dispatchers d where d.id <> p_dispatcher);
  v_operations bigint[];
  v_calls text[];
begin
  if not exists (select from dispatchers d where d.id = p_dispatcher) then
    return; -- its lease is lost: what it took would be anybody's
  end if;
  select array_agg(f.operation_id), array_agg(f.call_id) into v_operations, v_calls
    from (select c.operation_id, c.call_id from tool_calls c
           where c.output is null and c.name = any (p_names) and c.type in ('function_call', 'custom_tool_call')
             and (c.claimed_by is null or not c.claimed_by = any (v_others))
             and not exists (select from unnest(p_held_operations, p_held_calls) as held (operation_id, call_id)
                              where held.operation_id = c.operation_id and held.call_id = c.call_id)
           order by c.created_at limit p_limit for update skip locked) as f;
  -- Look again, now that they are locked: one may have been claimed by a dispatcher that was not on the list before.
  v_others := array(select d.id from dispatchers d where d.id <> p_dispatcher);
  return query
    update tool_calls c set claimed_by = p_dispatcher, attempts = c.attempts + 1
      from unnest(v_operations, v_calls) as found (operation_id, call_id), thread_operations o
     where c.operation_id = found.operation_id and c.call_id = found.call_id and o.id = c.operation_id
       and c.output is null and (c.claimed_by is null or not c.claimed_by = any (v_others))
    returning c.operation_id, c.call_id, c.thread_id, o.operation, c.type, c.name, c.arguments, c.attempts;
end $function$;

CREATE OR REPLACE FUNCTION public.close_tool_calls(p_ids bigint[])
 RETURNS void
 LANGUAGE sql
AS $function$
  update tool_calls c
     set output = to_jsonb('{"error": "The operation was cancelled before this call was answered."}'::text),
         is_error = true, answered_by = session_actor(), answered_at = clock_timestamp()
   where c.operation_id = any (p_ids) and c.output is null
$function$;

CREATE OR REPLACE FUNCTION public.compare_archive_page(p_archive_id bigint, p_position bigint, p_items jsonb)
 RETURNS bigint
 LANGUAGE sql
 STABLE
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
  with seen as (
    select f.* from fresh_items(p_archive_id, p_position, p_items) as f
  ), seen_in_order as (
    select row_number() over (order by s.said_at, case when s.said_at is not null then s.item_id end, s.n) as n, s.item_id, s.item from seen s
  ), stored_in_order as (
    select row_number() over (order by m.said_at, case when m.said_at is not null then m.item_id end, m.position) as n, m.item_id, m.item
      from archived_messages m
     where m.archive_id = p_archive_id and m.position > p_position and m.position <= p_position + (select count(*) from seen)
  )
  select case when coalesce(bool_and(seen.item_id is not distinct from stored.item_id and seen.item is not distinct from stored.item), true)
              then p_position + count(*) end
    from seen_in_order seen left join stored_in_order stored using (n)
$function$;

CREATE OR REPLACE FUNCTION public.complete_archive(p_dispatcher text, p_id bigint, p_attempts integer, p_reason text, p_metadata jsonb, p_last_item_id text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
  v_id bigint;
  v_provider_thread_id text;
  v_generation integer;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_id := v_operation.progress #> '{archiving,archive_id}';
  v_provider_thread_id := v_operation.progress #>> '{archiving,provider_thread_id}';
  if v_operation.progress #> '{archived,archive_id}' = to_jsonb(v_id) then
    return jsonb_build_object('archived', v_operation.progress -> 'archived');
  end if;

  update thread_generations g set archive_id = v_id
   where g.thread_id = v_operation.thread_id
     and g.generation = (select max(l.generation) from thread_generations l
                          where l.thread_id = v_operation.thread_id and l.provider_thread_id = v_provider_thread_id)
  returning g.generation into strict v_generation;

  insert into archived_runs (archive_id, turn, operation_id, run_id, status, model, usage, user_id, started_at, finished_at)
  select v_id, o.turn, o.id, o.result #>> '{run,id}', o.result #>> '{run,status}', o.result #>> '{run,model}',
         nullif(o.result -> 'usage', 'null'), o.user_id, o.started_at, o.finished_at
    from thread_operations o
   where o.thread_id = v_operation.thread_id and o.turn is not null
     and o.result ->> 'provider_thread_id' = v_provider_thread_id and o.result ? 'run';

  insert into thread_archives (
    id, thread_id, generation, operation_id, provider, provider_thread_id, user_id, reason, messages, items, last_item_id,
    runs, input_tokens, output_tokens, metadata, verified_at)
  select v_id, t.id, v_generation, p_id, t.provider, v_provider_thread_id, t.user_id, p_reason, stored.messages, stored.items, p_last_item_id,
         used.runs, used.input_tokens, used.output_tokens, p_metadata, clock_timestamp()
    from threads t,
         (select count(*) as items, count(*) filter (where m.type = 'message') as messages
            from archived_messages m where m.archive_id = v_id) as stored,
         (select count(*) as runs,
                 case when count(*) = count(r.usage) then sum((r.usage ->> 'input_tokens')::bigint) end as input_tokens,
                 case when count(*) = count(r.usage) then sum((r.usage ->> 'output_tokens')::bigint) end as output_tokens
            from archived_runs r where r.archive_id = v_id) as used
   where t.id = v_operation.thread_id;
  delete from unfinished_archives u where u.archive_id = v_id;

  select jsonb_build_object('archived', jsonb_build_object(
           'archive_id', v_id, 'provider_thread_id', v_provider_thread_id, 'turn', v_operation.turn,
           'items', a.items, 'last_item_id', a.last_item_id))
    into v_noted from thread_archives a where a.id = v_id;
  update thread_operations o set progress = o.progress || v_noted where o.id = p_id;
  return v_noted;
end $function$;

CREATE OR REPLACE FUNCTION public.create_missing_threads(p_ids bigint[], p_default_provider text)
 RETURNS void
 LANGUAGE sql
AS $function$
  insert into threads (id, provider, provider_thread_id)
  select distinct on (o.thread_id) o.thread_id, coalesce(nullif(o.provider, ''), p_default_provider),
         -- Two lines on one conversation would race: what another thread has adopted stays its own. No exists,
         -- which the planner may turn into a look at the whole table.
         case when provider_of(o.thread_id, '', '{}', null) <> ''
               and (select a.id from threads a where a.provider_thread_id = o.thread_id limit 1) is null then o.thread_id end
    from thread_operations o
   where o.id = any (p_ids) and not exists (select from threads t where t.id = o.thread_id and t.provider is not null)
   order by o.thread_id, o.place
      on conflict (id) do update
         set provider = excluded.provider,
             provider_thread_id = coalesce(threads.provider_thread_id, excluded.provider_thread_id)
       where threads.provider is null
$function$;

CREATE OR REPLACE FUNCTION public.delete_old_streams(p_retention_ms bigint, p_limit integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '100ms'
AS $function$
declare
  v_before timestamptz := clock_timestamp() - p_retention_ms * interval '1 millisecond';
  v_old bigint[];
begin
  v_old := array(
    select s.operation_id from operation_stream s
     where s.first_seq = 1 and s.at < v_before
       and not exists (select from thread_operations o
                        where o.id = s.operation_id and coalesce(o.finished_at, 'infinity') >= v_before)
     order by s.at limit p_limit for update skip locked);
  delete from operation_stream s where s.operation_id = any (v_old);
  return cardinality(v_old);
end $function$;

CREATE OR REPLACE FUNCTION public.delete_unfinished_archives(p_limit integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_archive_id bigint;
  v_count integer := 0;
  v_deleted integer;
begin
  for v_archive_id in
    select u.archive_id from unfinished_archives u left join thread_operations o on o.id = u.operation_id
     where o.id is null or o.finished_at is not null or o.progress #> '{archiving,archive_id}' is distinct from to_jsonb(u.archive_id)
     order by u.archive_id for update of u skip locked
  loop
    delete from archived_messages m
     where m.archive_id = v_archive_id
       and m.position <= (select min(f.position) from archived_messages f where f.archive_id = v_archive_id) + p_limit - v_count - 1;
    get diagnostics v_deleted = row_count;
    v_count := v_count + v_deleted;
    if not exists (select from archived_messages m where m.archive_id = v_archive_id) then
      delete from unfinished_archives u where u.archive_id = v_archive_id;
    end if;
    exit when v_count >= p_limit;
  end loop;
  return v_count;
end $function$;

CREATE OR REPLACE FUNCTION public.deletion_defaults(p_thread_id text, OUT archives boolean, OUT reopens boolean)
 RETURNS record
 LANGUAGE sql
 STABLE
AS $function$
  select coalesce(p.archive_on_delete, false), coalesce(p.reopen, false) and t.closed_at is null
    from threads t left join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p on true
   where t.id = p_thread_id
$function$;

CREATE OR REPLACE FUNCTION public.deletion_facts(p_id bigint, p_generation integer, OUT provider text, OUT proof jsonb, OUT quiet_since timestamp with time zone)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE ROWS 1
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
  select g.provider, deletion_proof(g),
         least(g.ended_at, greatest(g.started_at, (
           select before.finished_at from thread_operations before
            where before.thread_id = o.thread_id and before.turn < o.turn order by before.turn desc limit 1)))
    from thread_operations o join thread_generations g on g.thread_id = o.thread_id and g.generation = p_generation
   where o.id = p_id
$function$;

CREATE OR REPLACE FUNCTION public.deletion_proof(g thread_generations)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select case when g.proof is not null then
    jsonb_build_object('generation', g.generation, 'provider_thread_id', g.provider_thread_id) || g.proof end
$function$;

CREATE OR REPLACE FUNCTION public.dispatcher_lock_key(p_dispatcher text)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select hashtextextended('inturn dispatcher ' || p_dispatcher, 0)
$function$;

CREATE OR REPLACE FUNCTION public.end_conversation(p_dispatcher text, p_id bigint, p_attempts integer, p_ended_by text, p_facts jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
  v_thread threads;
  v_reopens boolean := p_facts -> 'reopen';
  v_scheduled bigint[];
  v_noted jsonb;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  select * into v_thread from threads t where t.id = v_operation.thread_id for no key update;
  if v_operation.progress ? 'deleting' and v_thread.provider_thread_id is null then
    return jsonb_build_object('deleting', v_operation.progress -> 'deleting');
  end if;
  update thread_generations g set ended_by = p_ended_by
   where g.thread_id = v_thread.id and g.generation = v_thread.generation and v_thread.provider_thread_id is not null;
  update threads t
     set provider_thread_id = null, last_item_id = null, last_message_at = null, metadata = '{}', updated_at = clock_timestamp()
   where t.id = v_thread.id;
  if p_ended_by = 'deleted' then
    update threads t
       set closed_at = case when not v_reopens then coalesce(t.closed_at, clock_timestamp()) end,
           deleted_at = case when not v_reopens then t.deleted_at end,
           ended_before = nextval('thread_operations_id_seq')
     where t.id = v_thread.id;
    -- What somebody's transaction holds ends when it is due.
    v_scheduled := array(
      select o.id from thread_operations o
       where o.thread_id = v_thread.id and o.turn is null and o.status = 'scheduled' and o.operation <> 'delete_thread'
         for update skip locked);
    update thread_operations o set status = 'cancelled', finished_at = clock_timestamp(), error = thread_deleted()
     where o.id = any (v_scheduled);
    perform notify_waiters(v_scheduled);
  end if;
  v_noted := jsonb_build_object('deleting', jsonb_build_object('at', clock_timestamp()) || p_facts);
  update thread_operations o set progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $function$;

CREATE OR REPLACE FUNCTION public.end_hold(p_id bigint, p_status text, p_error jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
declare
  v_thread text;
begin
  update thread_operations o
     set status = p_status, place = null, claimed_by = null, held_until = null, finished_at = clock_timestamp(), error = p_error,
         result = (select jsonb_build_object('provider_thread_id', t.provider_thread_id) from threads t
                    where p_status = 'completed' and t.id = o.thread_id and t.provider_thread_id is not null)
   where o.id = p_id and o.finished_at is null
  returning o.thread_id into v_thread;
  if not found then
    return false; -- two cancel_runs meant the same hold
  end if;
  perform settle_cancellations(array[p_id]);
  perform notify_waiters(array[p_id]);
  if p_status = 'failed' then
    perform cancel_rest(array[v_thread]);
  end if;
  return mark_heads((next_in_line(array[v_thread])).waiting) > 0;
end $function$;

CREATE OR REPLACE FUNCTION public.end_waiting(p_ids bigint[], p_status text, p_error jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  update thread_operations o
     set status = p_status, place = null, ready_at = null, finished_at = clock_timestamp(), error = p_error
   where o.id = any (p_ids);
  perform notify_waiters(p_ids);
end $function$;

CREATE OR REPLACE FUNCTION public.enter_lane(p_dispatcher text, p_id bigint, p_attempts integer, p_provider text, p_key text, p_model text)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '500ms'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
declare
  v_lane lanes;
begin
  -- One after the other by the lane's row lock, the key's first; each statement below sees all that those
  -- before have committed.
  for v_lane in
    select * from lanes l where l.provider = p_provider and l.key = p_key and l.model in ('', p_model)
     order by l.model for update
  loop
    continue when v_lane.max_runs is null;
    delete from lane_runs r
     where r.provider = p_provider and r.key = p_key and v_lane.model in ('', r.model)
       and not exists (select from thread_operations o where o.id = r.operation_id and holds_place(o));
    if (select count(*) from lane_runs r
         where r.provider = p_provider and r.key = p_key and v_lane.model in ('', r.model)
           and r.operation_id <> p_id) >= v_lane.max_runs then
      return lane_name(p_key, v_lane.model);
    end if;
  end loop;
  insert into lane_runs (operation_id, provider, key, model)
  select o.id, p_provider, p_key, p_model from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts
      on conflict (operation_id) do update set provider = excluded.provider, key = excluded.key, model = excluded.model;
  return null;
exception when lock_not_available or deadlock_detected then
  return lane_name(p_key, p_model);
end $function$;

CREATE OR REPLACE FUNCTION public.enter_user(p_dispatcher text, p_id bigint, p_attempts integer, p_user_id text, p_max_runs integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '500ms'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
begin
  -- One after the other; each statement below sees all that those before have committed.
  perform pg_advisory_xact_lock(hashtextextended(current_schema() || ' inturn user ' || p_user_id, 0));
  delete from user_runs r
   where r.user_id = p_user_id
     and not exists (select from thread_operations o where o.id = r.operation_id and holds_place(o));
  if (select count(*) from user_runs r where r.user_id = p_user_id and r.operation_id <> p_id) >= p_max_runs then
    return false;
  end if;
  insert into user_runs (operation_id, user_id)
  select o.id, p_user_id from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts
      on conflict (operation_id) do nothing;
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end $function$;

CREATE OR REPLACE FUNCTION public.erase_archive(p_archive_id bigint)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
  delete from archived_messages m where m.archive_id = p_archive_id;
  delete from archived_runs r where r.archive_id = p_archive_id;
  update thread_generations g set archive_id = null
    from thread_archives a
   where a.id = p_archive_id and g.thread_id = a.thread_id and g.archive_id = a.id;
  delete from unfinished_archives u where u.archive_id = p_archive_id;
  delete from thread_archives a where a.id = p_archive_id;
  return found;
end $function$;

CREATE OR REPLACE FUNCTION public.erase_operations(p_ids bigint[])
 RETURNS integer
 LANGUAGE plpgsql
 SET "inturn.line" TO 'on'
AS $function$
declare
  v_count integer;
begin
  update thread_operations o
     set data = '{}', user_id = null, intent = null, progress = '{"erased": true}',
         result = (select jsonb_object_agg(kept.key, kept.value) from jsonb_each(o.result) as kept
                    where kept.key in ('run', 'usage', 'outcome', 'provider_thread_id', 'message_id', 'merged', 'operation_id', 'archive_id',
                                       'items', 'generation', 'deleted', 'not_deleted')),
         error = o.error || '{"message": "What was said of it was erased."}'
   where o.id = any (p_ids) and o.finished_at is not null;
  get diagnostics v_count = row_count;
  delete from operation_stream s where s.operation_id = any (p_ids);
  delete from tool_calls c where c.operation_id = any (p_ids);
  return v_count;
end $function$;

CREATE OR REPLACE FUNCTION public.erase_thread(p_thread_id text, p_limit integer)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_before bigint;
  v_ids bigint[];
  v_archive bigint;
begin
  select t.erase_before into v_before from threads t where t.id = p_thread_id and t.erase_before > 0 for no key update skip locked;
  if not found then
    return 'done';
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_thread_id and o.id < v_before and o.finished_at is not null and not coalesce(o.progress ? 'erased', false)
     limit p_limit for update skip locked);
  if v_ids <> '{}' then
    perform erase_operations(v_ids);
    return 'more';
  end if;
  v_archive := coalesce((select a.id from thread_archives a where a.thread_id = p_thread_id limit 1),
                        (select u.archive_id from unfinished_archives u where u.thread_id = p_thread_id limit 1));
  if v_archive is not null then
    perform erase_archive(v_archive);
    return 'more';
  end if;
  if exists (select from thread_operations o
              where o.thread_id = p_thread_id and o.id < v_before and not coalesce(o.progress ? 'erased', false)) then
    return 'waits';
  end if;
  update threads t set erase_before = 0 where t.id = p_thread_id;
  return 'done';
end $function$;

CREATE OR REPLACE FUNCTION public.erase_threads(p_limit integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
declare
  v_thread text;
  v_more boolean := false;
begin
  for v_thread in select t.id from threads t where t.erase_before > 0 limit p_limit loop
    v_more := erase_thread(v_thread, 1000) = 'more' or v_more;
  end loop;
  return v_more;
end $function$;

CREATE OR REPLACE FUNCTION public.erase_user(p_user_id text)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
declare
  v_id bigint;
  v_up_to bigint;
  v_deletions bigint[];
begin
  if p_user_id is null or length(p_user_id) not between 1 and 255 then
    raise check_violation using
      constraint = 'user_id_has_1_to_255_characters',
      message = format('user_id must have 1 to 255 characters, not %s', coalesce(length(p_user_id), 0)),
      hint = 'Write your own id of the person, as in threads.user_id and thread_operations.user_id.';
  end if;
  insert into erasures (user_id, requested_by) values (p_user_id, session_actor()) on conflict do nothing returning id into v_id;
  if v_id is null then
    select e.id into strict v_id from erasures e where e.user_id = p_user_id and e.finished_at is null;
    return v_id;
  end if;
  with inserted as (
    insert into thread_operations (thread_id, operation, data)
    select t.id, 'delete_thread', '{"erase": true}' from threads t where t.user_id = p_user_id
    returning id
  )
  select coalesce(array_agg(i.id), '{}') into v_deletions from inserted i;
  v_up_to := nextval('thread_operations_id_seq');
  update erasures e
     set progress = jsonb_build_object(
           'deletions', to_jsonb(v_deletions), 'up_to', v_up_to, 'xid', null,
           'looked_at', 0, 'unfinished', '[]'::jsonb, 'operations', 0, 'archives', 0, 'others', '[]'::jsonb)
   where e.id = v_id;
  perform pg_notify('inturn_beside', current_schema());
  return v_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('an erasure of %s', p_user_id));
end $function$;

CREATE OR REPLACE FUNCTION public.erasure_report(p_erasure erasures)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET enable_seqscan TO 'on'
AS $function$
  with theirs as (
    select t.id, t.deleted_at, t.created_at, (
             select d.status || coalesce(' (' || (d.error ->> 'code') || ')', '') from thread_operations d
              where d.thread_id = t.id and d.status <> 'completed'
                and d.id = any (array(select jsonb_array_elements_text(p_erasure.progress -> 'deletions')::bigint))) as undone
      from threads t where t.user_id = p_erasure.user_id
  ), generations as (
    select g.*, t.undone from theirs t join thread_generations g on g.thread_id = t.id
  ), not_proved as (
    select format('thread %s', t.id) as what, 'its delete_thread is ' || t.undone as why from theirs t where t.undone is not null
    union all
    select format('provider thread %s of thread %s', g.provider_thread_id, g.thread_id),
           case when g.ended_at is null then 'the thread has begun it since, or its deletion did not come to it'
                else format('no dispatcher that deleted the conversation has settings for the provider %s', g.provider) end
      from generations g where g.proof is null and g.undone is null
    union all
    select format('messages in thread %s', other.id), 'the thread is not theirs: its conversation and its archives stay'
      from jsonb_array_elements_text(p_erasure.progress -> 'others') as other (id)
    union all
    select format('thread %s', copy.thread_id), format('its conversation began with a copy of %s', copy.copied_from)
      from thread_generations copy
     where copy.copied_from in (select g.provider_thread_id from generations g)
       and copy.proof is null and copy.thread_id not in (select t.id from theirs t)
  )
  select jsonb_build_object(
    'user_id', p_erasure.user_id,
    'threads', coalesce((
      select jsonb_agg(jsonb_build_object('thread_id', t.id, 'deleted', coalesce((
               select jsonb_agg(jsonb_build_object('generation', g.generation, 'provider', g.provider, 'provider_thread_id', g.provider_thread_id) || g.proof
                                order by g.generation)
                 from generations g where g.thread_id = t.id and g.proof is not null), '[]')) order by t.id)
        from theirs t), '[]'),
    'operations', (p_erasure.progress ->> 'operations')::bigint + (
      select count(*) from theirs t join thread_operations o on o.thread_id = t.id where o.progress ? 'erased'),
    'archives', p_erasure.progress -> 'archives',
    'not_proved', coalesce((select jsonb_agg(jsonb_build_object('what', n.what, 'why', n.why) order by n.what) from not_proved n), '[]'),
    'not_covered', jsonb_build_array(
      'backups and replicas of this database',
      'what the provider itself keeps of deleted conversations, for as long as its terms say',
      'files that were uploaded to the provider',
      'keys and ids: thread ids, user_id, session_id, topic and idempotency keys stay as you have chosen them'))
$function$;

CREATE OR REPLACE FUNCTION public.expire_holds(p_dispatcher text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_hold record;
  v_found boolean := false;
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_hold in
    select o.id, o.held_until from thread_operations o
     where o.status = 'processing' and o.held_until <= clock_timestamp()
     limit 100 for update skip locked
  loop
    v_found := end_hold(v_hold.id, 'failed', jsonb_build_object('code', 'hold_expired', 'message',
      format('The hold was neither released nor renewed until %s.', date_trunc('milliseconds', v_hold.held_until)))) or v_found;
  end loop;
  if v_found then
    perform wake_dispatchers();
  end if;
  return v_found;
end $function$;

CREATE OR REPLACE FUNCTION public.expire_threads(p_most integer, OUT requested integer, OUT released integer, OUT waiting integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_room integer;
  v_way record;
  v_due text[];
begin
  requested := 0;
  released := 0;
  waiting := 0;
  if not pg_try_advisory_xact_lock(hashtextextended('inturn expiry ' || current_schema(), 0)) then
    return;
  end if;

  with over as (
    select t.id from threads t left join thread_operations o on o.id = t.lifecycle_operation_id
     where t.lifecycle_operation_id is not null
       and (o.id is null
            or o.finished_at < v_now - case o.status when 'completed' then interval '1 minute' else interval '1 hour' end)
       for no key update of t skip locked
  )
  update threads t set lifecycle_operation_id = null from over where t.id = over.id;
  get diagnostics released = row_count;

  -- Who comes back to a thread that was about to expire does not wait behind a request that everybody passes.
  update thread_operations o set priority = 0
   where o.id = any (array(
           select r.id from threads t join thread_operations r on r.id = t.lifecycle_operation_id
            where t.lifecycle_operation_id is not null and r.status = 'pending' and r.priority < 0 and r.place is not null
              and exists (select from thread_operations n where n.thread_id = r.thread_id and n.place > r.place)
              for update of r skip locked));

  -- One that stands behind others takes no slot.
  select count(*) into waiting
    from threads t join thread_operations o on o.id = t.lifecycle_operation_id
   where t.lifecycle_operation_id is not null and (o.status = 'processing' or o.ready_at <> never());
  select least(p_most, ceil(sum(d.concurrency) / 4.0)) - waiting into v_room from dispatchers d;

  for v_way in
    select w.named, w.pattern, due.clock, due.before
      from policy_ways() w
     cross join lateral (values ('last_active_at', v_now - (w.policy).idle_ttl),
                                ('generation_since', v_now - (w.policy).absolute_ttl)) as due (clock, before)
     where due.before is not null
  loop
    exit when v_room <= 0;
    v_due := lock_due_threads(v_way.named, v_way.pattern, v_way.clock, v_way.before, v_room);
    with asked as (
      insert into thread_operations (thread_id, operation, priority)
      select due.id, 'expire_thread', -50 from unnest(v_due) as due (id)
      returning id, thread_id
    )
    update threads t set lifecycle_operation_id = asked.id from asked where t.id = asked.thread_id;
    requested := requested + cardinality(v_due);
    v_room := v_room - cardinality(v_due);
  end loop;
  waiting := waiting + requested;
end $function$;

CREATE OR REPLACE FUNCTION public.expiry_of(p_id bigint, OUT expired_by text, OUT on_expiry text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE ROWS 1
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
  select over.expired_by, over.on_expiry
    from (
      select p.on_expiry,
             case when t.generation_since + p.absolute_ttl <= clock_timestamp() then 'absolute_ttl'
                  when greatest(t.generation_since, coalesce(served.at, t.last_active_at)) + p.idle_ttl <= clock_timestamp()
                       and waiting.id is null then 'idle_ttl' end as expired_by
        from thread_operations own
        join threads t on t.id = own.thread_id and t.provider_thread_id is not null
       cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
        left join lateral (
          select latest.finished_at as at
            from (select o.turn, o.operation, o.finished_at from thread_operations o
                   where o.thread_id = own.thread_id and o.turn < own.turn order by o.turn desc limit 20) as latest
           where not keeps_thread(latest.operation) order by latest.turn desc limit 1) as served on true
        left join lateral (
          select o.id from thread_operations o
           where o.thread_id = own.thread_id and o.place > started_place() and not keeps_thread(o.operation)
           order by o.place limit 1) as waiting on true
       where own.id = p_id) as over
   where over.expired_by is not null
$function$;

CREATE OR REPLACE FUNCTION public.finish_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_erase boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  if not found then
    return false;
  end if;
  update threads t
     set deleted_at = case when not (v_operation.progress #> '{deleting,reopen}')::boolean then coalesce(t.deleted_at, clock_timestamp()) end,
         closed_at = case when not (v_operation.progress #> '{deleting,reopen}')::boolean then coalesce(t.closed_at, clock_timestamp()) end,
         labels = case when p_erase then '{}' else t.labels end,
         erase_before = case when not p_erase then t.erase_before
                             when (v_operation.progress #> '{deleting,reopen}')::boolean then t.ended_before
                             else nextval('thread_operations_id_seq') end,
         updated_at = clock_timestamp()
   where t.id = v_operation.thread_id;
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.forget_streams()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
  delete from operation_stream s using old_rows o where s.operation_id = o.id;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.forget_tool_calls()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET enable_seqscan TO 'off'
AS $function$
begin
  delete from tool_calls c using old_rows gone where c.operation_id = gone.id;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.forgive_lanes(p_provider text, p_key text, p_model text, p_since timestamp with time zone)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
  update lanes l
     set paused_at = null, paused_until = null, reason = null, strikes = 0, probed_at = null, updated_at = clock_timestamp()
    from (select s.model from lanes s
           where s.provider = p_provider and s.key = p_key and s.model in ('', p_model) and s.paused_at < p_since
             for update skip locked) as served
   where l.provider = p_provider and l.key = p_key and l.model = served.model
$function$;

CREATE OR REPLACE FUNCTION public.fork_target_problem(p_to text)
 RETURNS text
 LANGUAGE sql
 STABLE
 SET enable_seqscan TO 'off'
AS $function$
  select case
    when provider_of(p_to, '', '{}', null) <> '' then 'is the id of a provider thread'
    when t.closed_at is not null then 'is closed'
    when t.generation > 0 or t.provider_thread_id is not null then 'has a conversation of its own'
    when t.last_turn > 0 or (select o.turn from thread_operations o
                              where o.thread_id = p_to and o.turn is not null order by o.turn limit 1) is not null
      then 'had operations served already'
    end
    from (values (p_to)) as target (id) left join threads t on t.id = target.id
$function$;

CREATE OR REPLACE FUNCTION public.fresh_items(p_archive_id bigint, p_position bigint, p_items jsonb)
 RETURNS TABLE(n bigint, item_id text, type text, role text, text text, content jsonb, attachments text[], run_id text, metadata jsonb, said_at timestamp with time zone, item jsonb)
 LANGUAGE sql
 STABLE
AS $function$
  select row_number() over (order by page.ordinality), page.id, page.type, page.role, page.text, page.content,
         coalesce(page.attachments, '{}'), page.run_id, page.metadata, page.said_at, page.item
    from rows from (jsonb_to_recordset(p_items) as (
           id text, type text, role text, text text, content jsonb, attachments text[], run_id text,
           metadata jsonb, said_at timestamptz, item jsonb)) with ordinality as page
   where not page.id = any (array(
           select m.item_id from archived_messages m
            where m.archive_id = p_archive_id and m.position > p_position - 200 and m.position <= p_position))
$function$;

CREATE OR REPLACE FUNCTION public.get_thread(p_user_id text DEFAULT NULL::text, p_session_id text DEFAULT NULL::text, p_topic text DEFAULT NULL::text, p_labels jsonb DEFAULT '{}'::jsonb)
 RETURNS threads
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '2s'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
declare
  v_id text := thread_key(p_user_id, p_session_id, p_topic);
  v_thread threads;
begin
  if v_id is null then
    raise check_violation using
      constraint = 'thread_has_a_key',
      message = 'a thread is found by its user_id, session_id or topic, and none of them was given',
      hint = 'Write for example SELECT id FROM get_thread(p_user_id => ''42'', p_topic => ''billing'');';
  end if;
  perform check_thread_keys(p_user_id, p_session_id, p_topic, p_labels);
  loop
    select * into v_thread from threads t where t.id = v_id;
    if not found then
      insert into threads (id, user_id, session_id, topic, labels)
      values (v_id, p_user_id, p_session_id, p_topic, merged_labels('{}', coalesce(p_labels, '{}')))
          on conflict (id) do nothing returning * into v_thread;
    elsif num_nonnulls(v_thread.user_id, v_thread.session_id, v_thread.topic) = 0 then
      update threads t set user_id = p_user_id, session_id = p_session_id, topic = p_topic
       where t.id = v_id and num_nonnulls(t.user_id, t.session_id, t.topic) = 0 returning * into v_thread;
    end if;
    -- Else somebody else has written it, or deleted it, between two of these statements.
    if found then
      return v_thread;
    end if;
  end loop;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', v_id));
end $function$;

CREATE OR REPLACE FUNCTION public.give_back_operations(p_dispatcher text, p_ids bigint[], p_attempts integer[])
 RETURNS bigint[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_given_back bigint[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  with given_back as (
    update thread_operations o set status = 'pending', claimed_by = null, ready_at = clock_timestamp()
     where o.id = any (array(
             select l.id from unnest(p_ids, p_attempts) as g (id, attempts) join thread_operations l on l.id = g.id
              where l.claimed_by = p_dispatcher and l.attempts = g.attempts and l.status = 'processing' for update of l skip locked))
    returning o.id
  )
  select array_agg(g.id) into v_given_back from given_back g;
  perform wake_dispatchers();
  return coalesce(v_given_back, '{}');
end $function$;

CREATE OR REPLACE FUNCTION public.give_back_tool_calls(p_dispatcher text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '1s'
 SET enable_seqscan TO 'off'
AS $function$
begin
  update tool_calls c set claimed_by = null where c.output is null and c.claimed_by = p_dispatcher;
  if found then
    perform pg_notify('inturn_beside', current_schema());
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.give_provider_thread(p_dispatcher text, p_id bigint, p_attempts integer, p_to text, p_copy jsonb, OUT noted jsonb, OUT refused text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return;
  end if;
  noted := jsonb_build_object('copying', null);
  if v_operation.progress ? 'assigned' then
    noted := noted || jsonb_build_object('assigned', v_operation.progress -> 'assigned');
    return;
  end if;
  -- Both rows that a claim of its first operation would lock: either it is started before the look, which
  -- sees it then, or it finds the copy when it is started.
  insert into threads (id, provider) values (p_to, v_operation.provider) on conflict (id) do nothing;
  perform from threads t where t.id = p_to for update;
  perform from thread_operations o
    where o.thread_id = p_to and o.place is not null order by o.place limit 1 for update;
  refused := fork_target_problem(p_to);
  if refused is not null then
    noted := '{}';
    return;
  end if;
  update threads t
     set provider = v_operation.provider, labels = source.labels || t.labels
    from threads source where t.id = p_to and source.id = v_operation.thread_id;
  noted := noted || jsonb_build_object('assigned',
    p_copy - 'metadata' || jsonb_build_object('generation', take_copy(p_to, p_copy), 'ended', null));
  update thread_operations o set intent = null, progress = coalesce(o.progress, '{}') || noted where o.id = p_id;
end $function$;

CREATE OR REPLACE FUNCTION public.go_on_where_answered(p_ids bigint[])
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
begin
  update thread_operations o set ready_at = clock_timestamp()
   where o.id = any (array(
           select l.id from thread_operations l
            where l.id = any (p_ids) and l.status = 'requires_action' and l.ready_at > clock_timestamp()
              and exists (select from tool_calls c where c.operation_id = l.id)
              and not exists (select from tool_calls c where c.operation_id = l.id and c.output is null)
              for update skip locked));
  if found then
    perform wake_dispatchers();
  end if;
  return found;
end $function$;

CREATE OR REPLACE FUNCTION public.guard_operation()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  if current_setting('inturn.line', true) is distinct from 'on' then
    if new is not distinct from old then
      new.prev_status := null; -- an ORM that saves what it has read changes nothing
      return new;
    end if;
    -- By the table's schema: this function has no search_path of its own, for the sake of the line's speed.
    execute format('select %I.guard_update_from_outside($1, $2)', tg_table_schema) into new.provider using old, new;
    if new.status = 'cancelled' then
      new.finished_at := clock_timestamp();
      new.place := null;
      new.ready_at := null;
    end if;
  end if;
  if not ((case old.status
       when 'scheduled' then new.status in ('scheduled', 'pending', 'cancelled')
       when 'pending' then new.status in ('pending', 'processing', 'completed', 'failed', 'cancelled')
       when 'processing' then new.status in ('processing', 'pending', 'requires_action', 'completed', 'failed', 'cancelled')
       when 'requires_action' then new.status in ('requires_action', 'processing')
       -- retry_operation: it joins its line anew.
       when 'failed' then new.status = 'pending' and new.turn is null
       when 'cancelled' then new.status = 'pending' and new.turn is null
       else false end
       -- erase_operations: it stays final, and nothing is left of what it held.
       or old.finished_at is not null and new.status = old.status and coalesce(new.progress ? 'erased', false))
     and (new.finished_at is not null) = (new.status in ('completed', 'failed', 'cancelled'))
     and (new.place is null or new.status in ('pending', 'processing', 'requires_action'))
     and (new.claimed_by is not null) = (new.status = 'processing')
     and (new.ready_at is null or new.status in ('pending', 'requires_action'))) then
    raise check_violation using
      constraint = 'transition_is_legal',
      message = format('operation %s cannot go from %s to %s', old.id, old.status, new.status),
      detail = format('finished_at %s, place %s, claimed_by %s, ready_at %s', new.finished_at, new.place, new.claimed_by, new.ready_at);
  end if;
  new.prev_status := nullif(old.status, new.status);
  new.updated_at := clock_timestamp();
  return new;
end $function$;

CREATE OR REPLACE FUNCTION public.guard_update_from_outside(p_old thread_operations, p_new thread_operations)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
declare
  v_column text;
begin
  if p_old.finished_at is not null then
    raise check_violation using
      constraint = 'final_operation_is_frozen',
      message = format('operation %s is %s, and what is final stays as it is', p_old.id, p_old.status),
      hint = case when p_old.status in ('failed', 'cancelled') then
        format('To have it served again: SELECT retry_operation(%s, ''head''), or ''tail'' for the end of its line.', p_old.id)
        else 'Insert a new operation instead.' end;
  end if;
  select changed.key into v_column
    from jsonb_each(to_jsonb(p_new)) as changed
    join jsonb_each(to_jsonb(p_old)) as kept on kept.key = changed.key
   where changed.value is distinct from kept.value
     and changed.key not in ('data', 'status', 'priority', 'updated_at')
   limit 1;
  if v_column is not null then
    raise check_violation using
      constraint = 'line_column_is_guarded',
      message = format('%s of operation %s is written by inturn alone', v_column, p_old.id),
      hint = 'You may set status to ''cancelled'', and change data or priority while the operation waits.';
  end if;
  if p_old.status not in ('pending', 'scheduled') then
    raise check_violation using
      constraint = 'active_operation_is_not_updated',
      message = format('operation %s is %s, and an UPDATE does not reach what is under way', p_old.id,
                       p_old.status || coalesce(' by ' || p_old.claimed_by, '')),
      hint = format('To end it: INSERT INTO thread_operations (thread_id, operation) VALUES (%L, ''cancel_run'');', p_old.thread_id);
  end if;
  if is_sent_along(p_old) and (p_new.status, p_new.data) is distinct from (p_old.status, p_old.data) then
    raise check_violation using
      constraint = 'message_is_sent_along',
      message = format('the message of operation %s goes to the provider together with the one before it', p_old.id),
      hint = 'It can be neither changed nor cancelled any more: it is completed when its turn comes. To take it back, delete it at the provider then.';
  end if;
  if p_new.status not in (p_old.status, 'cancelled') then
    raise check_violation using
      constraint = 'transition_is_legal',
      message = format('operation %s cannot go from %s to %s by an UPDATE', p_old.id, p_old.status, p_new.status),
      hint = 'The only status you may write is ''cancelled''.';
  end if;
  -- One that is held is for an operator to give up, whatever may come of it.
  if p_new.status = 'cancelled' and p_old.ready_at is distinct from never() and is_under_way(p_old) then
    raise check_violation using
      constraint = 'what_is_under_way_is_ended_first',
      message = format('operation %s waits for its next attempt, and what it has begun at the provider may go on', p_old.id),
      hint = format('To end both: INSERT INTO thread_operations (thread_id, operation, data) VALUES (%L, ''cancel_run'', ''{"operation_id": %s}'');',
                    p_old.thread_id, p_old.id);
  end if;
  if p_new.priority not between -100 and 100 then
    raise check_violation using
      constraint = 'priority_is_between_minus_100_and_100',
      message = format('priority must be a number from -100 to 100, not %s', p_new.priority);
  end if;
  if p_new.data is distinct from p_old.data then
    if p_old.started_at is not null then
      raise check_violation using
        constraint = 'data_is_fixed_once_started',
        message = format('data of operation %s is fixed: it was started at %s', p_old.id, p_old.started_at),
        hint = 'Cancel this operation and insert a new one.';
    end if;
    perform check_operation_data(p_new.operation, p_new.data);
    -- A head stands among those of its provider, and a create_thread may name another one now.
    if p_old.head_since is not null then
      return provider_of(p_new.thread_id, p_new.operation, p_new.data,
                         (select t.provider from threads t where t.id = p_new.thread_id));
    end if;
  end if;
  return p_new.provider;
end $function$;

CREATE OR REPLACE FUNCTION public.has_rejoined(p_row thread_operations, p_ended_before bigint)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce((p_row.progress ->> 'rejoined')::bigint >= p_ended_before, false)
$function$;

CREATE OR REPLACE FUNCTION public.head_priorities(p_providers text[])
 RETURNS smallint[]
 LANGUAGE sql
 STABLE
AS $function$
  with recursive head (provider, priority) as (
    select p.provider, (select max(h.priority) from thread_operations h
                         where h.ready_at is not null and h.provider = p.provider)
      from unnest(p_providers) as p (provider)
    union all
    select head.provider, (select max(h.priority) from thread_operations h
                            where h.ready_at is not null and h.provider = head.provider and h.priority < head.priority)
      from head where head.priority is not null
  )
  select array_agg(distinct coalesce(priority, 0::smallint) order by coalesce(priority, 0::smallint) desc) from head
$function$;

CREATE OR REPLACE FUNCTION public.heads_between(p_providers text[], p_priorities smallint[])
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select exists (
    select from unnest(p_providers) as p (provider)
     cross join generate_subscripts(p_priorities, 1) as n
     cross join lateral (
       select from thread_operations h
        where h.ready_at is not null and h.provider = p.provider
          and h.priority > p_priorities[n] and h.priority < coalesce(p_priorities[n - 1], 32767::smallint)
        limit 1) as head)
$function$;

CREATE OR REPLACE FUNCTION public.held_hold(p_id bigint)
 RETURNS thread_operations
 LANGUAGE plpgsql
AS $function$
declare
  v_hold thread_operations;
begin
  select * into v_hold from thread_operations o where o.id = p_id for update;
  if not found then
    raise check_violation using
      constraint = 'operation_exists',
      message = format('there is no operation %s', p_id),
      hint = 'Insert a hold: INSERT INTO thread_operations (thread_id, operation) VALUES (…, ''hold'') RETURNING id;';
  end if;
  if v_hold.operation <> 'hold' then
    raise check_violation using
      constraint = 'operation_is_a_hold',
      message = format('operation %s is no hold but %s', p_id, v_hold.operation),
      hint = 'Only a hold is released or renewed; dispatchers end all other operations.';
  end if;
  if v_hold.finished_at is not null then
    raise check_violation using
      constraint = 'hold_is_not_over',
      message = format('hold %s is over: %s%s', p_id, v_hold.status, ' (' || (v_hold.error ->> 'code') || ')'),
      hint = format('Others may have the thread by now: stop what you do there, and insert a new hold for %L.', v_hold.thread_id);
  end if;
  if v_hold.held_until is null then
    raise check_violation using
      constraint = 'hold_has_begun',
      message = format('hold %s is %s and does not have the thread yet', p_id, v_hold.status),
      hint = format('Wait until its held_until is set; to withdraw it while it is pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', p_id);
  end if;
  return v_hold;
end $function$;

CREATE OR REPLACE FUNCTION public.holds_place(o thread_operations)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select o.finished_at is null
     and (o.status = 'processing'
          or (o.status = 'pending' and o.ready_at < never()
              and (o.intent ->> 'call' is not distinct from 'start_run'
                   or (o.progress ? 'run_id'
                       and not coalesce(o.progress -> 'failed_run_ids', '[]') ? (o.progress ->> 'run_id')))))
$function$;

CREATE OR REPLACE FUNCTION public.interrupt_active(p_row thread_operations)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  insert into thread_operations (thread_id, operation, data)
  select a.thread_id, 'cancel_run', jsonb_build_object('operation_id', a.id, 'interrupted_by', p_row.id)
    from thread_operations a
   where a.thread_id = p_row.thread_id and a.place = started_place()
     and a.operation in ('create_run', 'add_message_and_run')
     and (a.started_at <= p_row.created_at or p_row.place <> p_row.id)
     and 'cancel_active' = any (when_busy(p_row.if_busy, situation_before(p_row.thread_id, p_row.place)))
     and cancellation_of(a.id) is null;
end $function$;

CREATE OR REPLACE FUNCTION public.is_left_behind(p_row thread_operations, p_generation integer, p_provider_thread_id text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select p_row.turn is null and coalesce(
    (p_row.progress ->> 'generation')::integer > 0
    and not p_row.progress ? 'deleting'
    and (p_provider_thread_id is null or (p_row.progress ->> 'generation')::integer <> p_generation), false)
$function$;

CREATE OR REPLACE FUNCTION public.is_sent_along(p_row thread_operations)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select p_row.turn is null and p_row.finished_at is null
     and (coalesce(p_row.intent ? 'batch' and not p_row.intent ? 'sent_back', false)
          or coalesce(p_row.progress ? 'message_id' and not p_row.progress ? 'sent_back', false))
$function$;

CREATE OR REPLACE FUNCTION public.is_still_needed(o thread_operations)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select o.error ->> 'code' = 'merged' and exists (
           select from thread_operations m where m.id = (o.error ->> 'operation_id')::bigint and m.finished_at is null)
      or exists (select from thread_operations c where c.target_id = o.id and c.status = 'pending' and c.place is null)
      or exists (select from unresumed_failure(o.thread_id) as failure where failure.operation_id = o.id)
      or exists (select from threads t where t.id = o.thread_id and t.lifecycle_operation_id = o.id)
      or o.operation = 'add_message' and exists (
           select from (select b.intent from thread_operations b
                         where b.thread_id = o.thread_id and b.place is not null order by b.place limit 50) as line
            where line.intent -> 'batch' @> to_jsonb(o.id))
      or o.operation = 'delete_thread' and exists (select from erasures e where e.finished_at is null)
$function$;

CREATE OR REPLACE FUNCTION public.is_to_rotate(t threads)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select t.provider_thread_id is not null and t.closed_at is null
     and not exists (
           select from thread_operations o
            where o.id = t.lifecycle_operation_id
              and (o.finished_at is null or (o.status = 'failed' and o.finished_at > clock_timestamp() - interval '1 hour')))
     and coalesce(room_before_rotation(t) <= 0, false)
$function$;

CREATE OR REPLACE FUNCTION public.is_under_way(o thread_operations)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select is_sent_along(o) or o.turn is not null and coalesce(
              o.intent ->> 'call' not in ('create_thread', 'copy_items')
           or o.progress ->> 'copying' is not null
           or (o.progress ? 'run_id' and not coalesce(o.progress -> 'failed_run_ids', '[]') ? (o.progress ->> 'run_id'))
           or o.progress ->> 'answered' is not null
           or o.progress ? 'asked'
           or o.progress ? case o.operation when 'add_message' then 'message_id'
                                            when 'create_thread' then 'provider_thread_id'
                                            when 'update_thread' then 'overwritten'
                                            when 'archive_thread' then 'archived'
                                            when 'delete_thread' then 'deleting'
                                            when 'expire_thread' then 'deleting'
                                            when 'rotate_thread' then 'assigned'
                                            when 'fork_thread' then 'assigned'
                                            when 'restore_thread' then 'assigned' end,
         false)
$function$;

CREATE OR REPLACE FUNCTION public.join_at_the_head(p_row thread_operations, p_thread_provider text)
 RETURNS thread_operations
 LANGUAGE plpgsql
AS $function$
begin
  if num_nonnulls(p_row.if_busy, p_row.debounce_ms, p_row.debounce_max_ms) > 0 then
    raise check_violation using
      constraint = 'deletion_waits_for_nobody',
      message = 'delete_thread goes before all who wait, and cancels what is active',
      hint = 'Leave if_busy, debounce_ms and debounce_max_ms out; scheduled_at may say when it is to act.';
  end if;
  if p_row.scheduled_at > p_row.created_at then
    p_row.status := 'scheduled';
    p_row.place := null;
    return p_row;
  end if;
  p_row.place := -p_row.place; -- as retry_operation does: the later, the further ahead
  if not exists (select from thread_operations o where o.thread_id = p_row.thread_id and o.place < p_row.place) then
    p_row.provider := provider_of(p_row.thread_id, p_row.operation, p_row.data, p_thread_provider);
    p_row.head_since := p_row.created_at;
    p_row.ready_at := p_row.created_at;
    perform wake_dispatchers();
  end if;
  return p_row;
end $function$;

CREATE OR REPLACE FUNCTION public.join_beside_the_line(p_row thread_operations)
 RETURNS thread_operations
 LANGUAGE plpgsql
AS $function$
begin
  if p_row.scheduled_at > p_row.created_at or num_nonnulls(p_row.if_busy, p_row.debounce_ms, p_row.debounce_max_ms) > 0 then
    raise check_violation using
      constraint = 'beside_the_line_acts_at_once',
      message = format('%s acts at once and waits for nobody', p_row.operation),
      hint = 'Leave scheduled_at, if_busy, debounce_ms and debounce_max_ms out, and insert it when it is to act.';
  end if;
  p_row.place := null;
  p_row.target_id := (p_row.data ->> 'operation_id')::numeric;
  if p_row.target_id is not null then
    perform refuse_target(p_row.target_id, p_row.thread_id);
  else
    p_row.target_id := (select o.id from thread_operations o
                         where o.thread_id = p_row.thread_id and o.place = started_place());
  end if;
  if p_row.operation = 'submit_tool_outputs' then
    perform check_tool_outputs(p_row);
  end if;
  perform pg_notify('inturn_beside', current_schema());
  return p_row;
end $function$;

CREATE OR REPLACE FUNCTION public.join_line()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
declare
  v_xid xid8;
  v_thread_provider text;
  v_closed boolean;
  v_busy boolean;
  v_halts boolean;
  v_has_wishes boolean;
  v_somebody_sleeps boolean;
begin
  if new.thread_id is null or new.thread_id !~ '\S' or length(new.thread_id) > 255
     or new.status <> 'pending' or new.priority is null or new.priority not between -100 and 100
     or length(new.idempotency_key) not between 1 and 255 or length(new.user_id) not between 1 and 255
     or new.if_busy not in ('enqueue', 'reject', 'interrupt', 'latest', 'merge', 'interrupt+merge')
     or new.debounce_ms not between 1 and 3600000 or new.debounce_max_ms not between 1 and 86400000
     or new.provider <> '' or new.attempts <> 0 or new.failures <> 0
     or num_nonnulls(new.id, new.place, new.turn, new.head_since, new.ready_at, new.claimed_by, new.intent, new.progress, new.target_id,
                     new.merges, new.held_until, new.messages_so_far, new.runs_so_far, new.input_tokens_so_far, new.output_tokens_so_far, new.result, new.error, new.prev_status, new.started_at, new.finished_at) > 0 then
    perform refuse_row(new);
  end if;
  if not (check_operation_data(new.operation, new.data) and (new.retry is null or check_retry_policy(new.retry))) then
    return null; -- not reached: the checks raise
  end if;

  -- An xid before the look at the line: whoever empties the line meanwhile waits for this transaction
  -- to end before it believes that nobody has come.
  v_xid := pg_current_xact_id();
  -- Whatever clock the client has, the database's counts.
  select nextval('thread_operations_id_seq'), currval('thread_operations_id_seq'), 'pending',
         session_actor(), clock_timestamp(), t.provider, t.closed_at is not null, t.on_failure is not distinct from 'halt',
         t.if_busy <> 'enqueue' or t.debounce_ms is not null or num_nonnulls(new.if_busy, new.debounce_ms, new.debounce_max_ms) > 0,
         (select o.place from thread_operations o
           where o.thread_id = new.thread_id and o.place is not null order by o.place limit 1) is not null,
         exists (select from dispatchers d where d.asleep)
    into new.id, new.place, new.status, new.created_by, new.created_at, v_thread_provider, v_closed, v_halts, v_has_wishes, v_busy,
         v_somebody_sleeps
    from (values (new.thread_id)) as line (thread_id)
    left join threads t on t.id = line.thread_id;
  new.updated_at := new.created_at;
  if new.operation in ('cancel_run', 'submit_tool_outputs') then
    return join_beside_the_line(new); -- also on a closed thread, where what stood in line is still served
  end if;
  if new.operation = 'delete_thread' then
    return join_at_the_head(new, v_thread_provider); -- also on a closed thread: to repeat it is harmless
  end if;
  if v_closed then
    perform refuse_closed(new.thread_id);
  end if;
  if v_has_wishes then
    new := with_strategy(new);
  end if;
  if new.scheduled_at > new.created_at then
    new.status := 'scheduled';
    new.place := null;
    return new;
  end if;
  if not v_busy then
    if v_halts and line_is_halted(new.thread_id) then
      return new; -- waits unmarked until an operator says how the line goes on
    end if;
    new.provider := provider_of(new.thread_id, new.operation, new.data, v_thread_provider);
    new.head_since := new.created_at;
    new.ready_at := new.created_at;
    if new.debounce_ms is not null then
      new.ready_at := new.created_at + least(new.debounce_ms, new.debounce_max_ms) * interval '1 millisecond';
    end if;
    if v_somebody_sleeps then
      perform wake_dispatchers();
    end if;
  elsif new.if_busy is not null then
    new := refused_if_busy(new);
  end if;
  return new;
end $function$;

CREATE OR REPLACE FUNCTION public.join_scheduled(p_dispatcher text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_due bigint[];
  v_threads text[];
begin
  v_due := array(
    select o.id from thread_operations o where o.status = 'scheduled' and o.scheduled_at <= v_now
     order by o.scheduled_at, o.id limit 1000 for update skip locked);
  if v_due = '{}' then
    return false;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);
  update thread_operations o
     set status = 'cancelled', finished_at = clock_timestamp(),
         error = case when t.deleted_at is not null then thread_deleted()
                 else '{"code": "thread_closed", "message": "The thread was closed before the operation was due."}' end
    from threads t
   where o.id = any (v_due) and t.id = o.thread_id and t.closed_at is not null and o.operation <> 'delete_thread';
  -- The places are drawn in the order of the times, not of the rows.
  with joining as (
    select due.id, nextval('thread_operations_id_seq') as place
      from unnest(v_due) with ordinality as due (id, n) order by due.n
  )
  update thread_operations o set status = 'pending', place = case o.operation when 'delete_thread' then -j.place else j.place end
    from joining j where o.id = j.id and o.status = 'scheduled';
  perform arrive_when_due(due.id) from (
    select o.id from thread_operations o
     where o.id = any (v_due) and o.status = 'pending' and o.if_busy in ('reject', 'interrupt', 'interrupt+merge')
     order by o.place) as due;
  perform make_way(v_due);
  perform notify_waiters(v_due);
  v_threads := array(select distinct o.thread_id from thread_operations o where o.id = any (v_due));
  if mark_heads((next_in_line(v_threads)).waiting) = 0 then
    return false;
  end if;
  perform wake_dispatchers();
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.keep_generations()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  if tg_op = 'UPDATE' and old.provider_thread_id is not null then
    update thread_generations g
       set ended_at = clock_timestamp(), ended_by = coalesce(g.ended_by, 'replaced')
     where g.thread_id = old.id and g.generation = old.generation;
  end if;
  if new.provider_thread_id is not null then
    insert into thread_generations (thread_id, generation, provider, provider_thread_id, messages_before, tokens_before, started_at)
    select new.id, new.generation, new.provider, new.provider_thread_id,
           so_far.messages, so_far.input_tokens + so_far.output_tokens, new.generation_since
      from thread_totals(new.id, 9223372036854775807) as so_far;
  end if;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.keeps_thread(p_operation text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select p_operation in ('archive_thread', 'rotate_thread', 'fork_thread', 'restore_thread', 'expire_thread', 'delete_thread')
$function$;

CREATE OR REPLACE FUNCTION public.lane_name(p_key text, p_model text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select concat_ws('/', p_key, nullif(p_model, ''))
$function$;

CREATE OR REPLACE FUNCTION public.line_is_halted(p_thread_id text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select exists (select from unresumed_failure(p_thread_id) as failure where failure.on_failure = 'halt')
$function$;

CREATE OR REPLACE FUNCTION public.lines_to_arrange(p_heads bigint[])
 RETURNS text[]
 LANGUAGE sql
 STABLE
AS $function$
  select array_agg(h.thread_id) from thread_operations h
   where h.id = any (p_heads)
     and (select o.id from thread_operations o
           where o.thread_id = h.thread_id and o.place is not null and o.turn is null
             and (o.if_busy in ('reject', 'latest', 'merge', 'interrupt+merge') or o.debounce_ms is not null)
           order by o.if_busy, o.place limit 1) is not null
$function$;

CREATE OR REPLACE FUNCTION public.lock_due_threads(p_named text, p_pattern text, p_clock text, p_before timestamp with time zone, p_limit integer)
 RETURNS text[]
 LANGUAGE plpgsql
AS $function$
declare
  v_due text[];
begin
  execute format($walk$
    select array(
      select t.id from threads t
       where t.provider_thread_id is not null and t.closed_at is null and t.lifecycle_operation_id is null
         and %1$s and pattern_of(t.user_id, t.session_id, t.topic) = $2 and t.%2$I < $3 and t.generation_since < $3
         and (t.on_failure = 'continue' or not line_is_halted(t.id))
         and (%3$L = 'generation_since' or not exists (
               select from thread_operations w where w.thread_id = t.id and w.place is not null) and not exists (
               select from (select l.operation, l.finished_at from thread_operations l
                             where l.thread_id = t.id and l.turn is not null order by l.turn desc limit 20) as latest
                where latest.finished_at >= $3
                  and not keeps_thread(latest.operation)))
       order by t.policy, pattern_of(t.user_id, t.session_id, t.topic), t.%2$I limit $4 for no key update skip locked)
    $walk$, case when p_named is null then 't.policy is null' else 't.policy = $1' end, p_clock, p_clock)
    into v_due using p_named, p_pattern, p_before, p_limit;
  return v_due;
end $function$;

CREATE OR REPLACE FUNCTION public.make_way(p_ids bigint[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  insert into thread_operations (thread_id, operation, data)
  select a.thread_id, 'cancel_run', jsonb_build_object('operation_id', a.id, 'reason', format('operation %s deletes the conversation', d.id))
    from thread_operations d join thread_operations a on a.thread_id = d.thread_id and a.place = started_place()
   where d.id = any (p_ids) and d.operation = 'delete_thread' and d.status = 'pending'
     and a.id <> d.id and a.operation <> 'delete_thread' and cancellation_of(a.id) is null;
end $function$;

CREATE OR REPLACE FUNCTION public.mark_heads(p_ids bigint[])
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
declare
  v_marked integer;
begin
  update thread_operations o
     set head_since = coalesce(o.head_since, clock_timestamp()),
         ready_at = clock_timestamp(),
         provider = provider_of(o.thread_id, o.operation, o.data, head.provider)
    from (select l.id, t.provider from thread_operations l
            left join threads t on t.id = l.thread_id
           where l.id = any (p_ids) and l.status = 'pending' and l.ready_at is null
             and (t.on_failure is distinct from 'halt' or l.operation = 'delete_thread' or not line_is_halted(l.thread_id))
             for update of l skip locked) as head
   where o.id = head.id;
  get diagnostics v_marked = row_count;
  return v_marked;
end $function$;

CREATE OR REPLACE FUNCTION public.may_start(p_id bigint)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select not exists (
    select from thread_operations o
     cross join lateral unresumed_failure(o.thread_id) as failure
     where o.id = p_id and o.turn is null and o.operation <> 'delete_thread'
       and (failure.on_failure = 'halt'
            or stood_in_line(o.id, o.thread_id, o.place, o.created_at, failure.failed_at) and not is_sent_along(o)))
$function$;

CREATE OR REPLACE FUNCTION public.merge_waiting(p_first thread_operations)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
declare
  v_row record;
  v_most integer := 100;
  v_group bigint[];
  v_size integer;
  v_free bigint[];
  v_last bigint;
begin
  loop
    v_group := '{}';
    v_size := 0;
    for v_row in
      select o.id, o.operation, o.if_busy, num_nonnulls(o.turn, o.intent, o.progress) = 0 as is_untouched,
             o.operation = 'create_run' or o.data ?| '{input, additional_messages, provider_options}' as is_last
        from thread_operations o
       where o.thread_id = p_first.thread_id and o.place >= p_first.place order by o.place limit v_most
    loop
      exit when not v_row.is_untouched or v_row.operation not in ('add_message', 'create_run', 'add_message_and_run');
      v_group := v_group || v_row.id;
      if v_row.operation <> 'add_message' and 'merge_waiting' = any (when_busy(v_row.if_busy, 'others wait')) then
        v_size := cardinality(v_group);
      end if;
      exit when v_row.is_last;
    end loop;
    if v_size < 2 then
      return null;
    end if;
    v_group := v_group[:v_size];
    v_free := array(
      select o.id from thread_operations o
       where o.id = any (v_group) and o.place is not null and num_nonnulls(o.turn, o.intent, o.progress) = 0
         for update skip locked);
    exit when cardinality(v_free) = v_size;
    -- Before the first that somebody's transaction holds.
    select min(g.n) - 1 into v_most from unnest(v_group) with ordinality as g (id, n) where not g.id = any (v_free);
  end loop;

  v_last := v_group[v_size];
  v_group := v_group[:v_size - 1];
  update thread_operations o
     set merges = o.merges || array(
           select taken.id from unnest(v_group) with ordinality as g (id, n)
             join thread_operations w on w.id = g.id
            cross join lateral unnest(w.merges || w.id) with ordinality as taken (id, n)
            order by g.n, taken.n)
   where o.id = v_last;
  perform end_waiting(v_group, 'cancelled', jsonb_build_object('code', 'merged', 'operation_id', v_last,
    'message', format('Its message goes to the provider with operation %s, whose run answers it.', v_last)));
  return v_last;
end $function$;

CREATE OR REPLACE FUNCTION public.merged_labels(p_labels jsonb, p_changes jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
 SELECT
         CASE
             WHEN (jsonb_typeof(p_changes) <> 'object'::text) THEN p_changes
             ELSE COALESCE(( SELECT jsonb_object_agg(l.key, l.value) AS jsonb_object_agg
                FROM jsonb_each((COALESCE(merged_labels.p_labels, '{}'::jsonb) || merged_labels.p_changes)) l(key, value)
               WHERE (l.value <> 'null'::jsonb)), '{}'::jsonb)
         END AS "coalesce";
END;

CREATE OR REPLACE FUNCTION public.messages_limit(p_provider text)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select case p_provider when 'assistants' then 100000 end
$function$;

CREATE OR REPLACE FUNCTION public.messages_of_batch(p_batch bigint[])
 RETURNS TABLE(id bigint, data jsonb)
 LANGUAGE sql
 STABLE
 SET enable_seqscan TO 'off'
AS $function$
  select o.id, o.data from unnest(p_batch) with ordinality as b (id, n)
    join thread_operations o on o.id = b.id order by b.n
$function$;

CREATE OR REPLACE FUNCTION public.messages_of_generation(t threads)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
  select so_far.messages - g.messages_before + g.carried_over
    from thread_generations g, thread_totals(t.id, 9223372036854775807) as so_far
   where g.thread_id = t.id and g.generation = t.generation
$function$;

CREATE OR REPLACE FUNCTION public.most_before_rotation(p_thread_id text)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
AS $function$
declare
  v_room bigint;
begin
  if not some_policy_rotates() then
    return null;
  end if;
  select room_before_rotation(t) into v_room from threads t where t.id = p_thread_id;
  return case when v_room is not null then greatest(v_room, 1) end;
end $function$;

CREATE OR REPLACE FUNCTION public.move_on_after_cancel()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
declare
  v_threads text[];
  v_ids bigint[];
begin
  select array_agg(distinct n.thread_id), array_agg(n.id) into v_threads, v_ids
    from new_rows n where n.prev_status = 'pending' and n.status = 'cancelled';
  if v_threads is not null and mark_heads((next_in_line(v_threads)).waiting) > 0 then
    perform wake_dispatchers();
  end if;
  perform close_tool_calls(v_ids);
  perform notify_waiters(v_ids);
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.move_on_after_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
begin
  if mark_heads((next_in_line(array[new.id])).waiting) > 0 then
    perform wake_dispatchers();
  end if;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.never()
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$ select timestamptz '9999-01-01 00:00:00+00' $function$;

CREATE OR REPLACE FUNCTION public.next_in_line(p_threads text[], OUT waiting bigint[], OUT empty text[], OUT somebody_waits boolean)
 RETURNS record
 LANGUAGE sql
 STABLE
AS $function$
  select coalesce(array_agg(head.id) filter (where head.status = 'pending' and head.ready_at is null), '{}'),
         array_agg(line.thread_id) filter (where head.id is null),
         exists (select from operation_waiters)
    from unnest(p_threads) as line (thread_id)
    left join lateral (
      select o.id, o.status, o.ready_at from thread_operations o
       where o.thread_id = line.thread_id and o.place is not null
       order by o.place limit 1) as head on true
$function$;

CREATE OR REPLACE FUNCTION public.note_batch(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_progress jsonb, p_batch bigint[], p_others jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_free bigint[];
  v_last_held integer;
begin
  if not note_progress(p_dispatcher, p_id, p_attempts, p_intent, p_progress) then
    return false;
  end if;
  v_free := array(
    select o.id from thread_operations o
     where o.id = any (p_batch) and o.id <> p_id and o.status = 'pending' and o.turn is null
       and o.intent -> 'batch' = to_jsonb(p_batch)
       for update skip locked);
  -- Nobody goes back behind a member that keeps its place.
  select max(b.n) into v_last_held
    from unnest(p_batch) with ordinality as b (id, n) join thread_operations o on o.id = b.id
   where not o.id = any (v_free) and o.status = 'pending' and o.turn is null and o.intent ? 'batch';
  update thread_operations o
     set intent = null,
         progress = p_others -> o.id::text,
         place = case when p_others ? o.id::text or b.n < v_last_held then o.place else (o.intent ->> 'place')::bigint end
    from unnest(p_batch) with ordinality as b (id, n)
   where o.id = b.id and o.id = any (v_free);
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.note_deletion(p_dispatcher text, p_id bigint, p_attempts integer, p_generation integer, p_items bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_thread text;
  v_generation thread_generations;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  update thread_generations g
     set deleted_at = coalesce(g.deleted_at, clock_timestamp()),
         proof = coalesce(g.proof, jsonb_build_object('items', p_items, 'gone_at', clock_timestamp()))
   where g.thread_id = v_thread and g.generation = p_generation
  returning * into v_generation;
  return deletion_proof(v_generation);
end $function$;

CREATE OR REPLACE FUNCTION public.note_progress(p_dispatcher text, p_id bigint, p_attempts integer, p_intent jsonb, p_progress jsonb)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '1s'
AS $function$
begin
  update thread_operations o
     set intent = jsonb_build_object('at', clock_timestamp()) || p_intent, progress = coalesce(o.progress, '{}') || coalesce(p_progress, '{}')
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts;
  return found;
end $function$;

CREATE OR REPLACE FUNCTION public.notify_waiters(p_ids bigint[])
 RETURNS void
 LANGUAGE sql
AS $function$
  select pg_notify('inturn_settled', o.id::text)
    from thread_operations o
   where o.id = any (p_ids)
     and (o.status in ('completed', 'failed', 'cancelled') or o.held_until is not null)
     and exists (select from operation_waiters w where w.operation_id = o.id)
$function$;

CREATE OR REPLACE FUNCTION public.number_generation()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  new.generation := new.generation + 1;
  new.generation_since := clock_timestamp();
  return new;
end $function$;

CREATE OR REPLACE FUNCTION public.owes_messages(o thread_operations, p_cancel thread_operations)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select o.turn is not null and p_cancel.data ? 'interrupted_by' and not coalesce(o.progress ? 'message_id', false)
     and (o.operation = 'add_message_and_run'
          or coalesce(cardinality(o.merges), 0) > jsonb_array_length(coalesce(o.progress -> 'merged_message_ids', '[]')))
$function$;

CREATE OR REPLACE FUNCTION public.pattern_of(p_user_id text, p_session_id text, p_topic text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select coalesce(nullif(concat_ws('+', case when p_user_id is not null then 'user' end,
                                        case when p_session_id is not null then 'session' end,
                                        case when p_topic is not null then 'topic' end), ''), 'none')
$function$;

CREATE OR REPLACE FUNCTION public.pause_lane(p_provider text, p_key text, p_model text, p_reason text, p_until_proof boolean, p_retry_after_ms bigint)
 RETURNS double precision
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '500ms'
AS $function$
declare
  v_lane lanes;
  v_now timestamptz := clock_timestamp();
  v_rests boolean;
  v_until timestamptz;
begin
  insert into lanes (provider, key, model) values (p_provider, p_key, p_model) on conflict do nothing;
  select * into v_lane from lanes l where l.provider = p_provider and l.key = p_key and l.model = p_model for update;
  v_rests := coalesce(v_lane.paused_until > v_now, false);
  v_until := case
    when p_until_proof then never()
    when p_retry_after_ms is not null then v_now + p_retry_after_ms * interval '1 millisecond'
    when v_rests then v_lane.paused_until
    -- From 1 to 60 seconds, jittered to between a half and all of it.
    else v_now + least(60, 2 * 2 ^ least(v_lane.strikes, 10)) * (0.5 + random() / 2) * interval '1 second'
  end;
  if not v_rests or v_until > v_lane.paused_until then
    update lanes l
       set paused_at = case when v_rests then l.paused_at else v_now end,
           probed_at = case when v_rests then l.probed_at end,
           paused_until = v_until,
           reason = p_reason,
           strikes = l.strikes + case when v_rests then 0 else 1 end,
           updated_at = v_now
     where l.provider = p_provider and l.key = p_key and l.model = p_model;
  else
    v_until := v_lane.paused_until;
  end if;
  return extract(epoch from v_until - v_now) * 1000;
end $function$;

CREATE OR REPLACE FUNCTION public.policy_of(p_policy text, p_user_id text, p_session_id text, p_topic text)
 RETURNS SETOF thread_policies
 LANGUAGE sql
 STABLE ROWS 1
BEGIN ATOMIC
 SELECT p.name,
     p.pattern,
     p.absolute_ttl,
     p.idle_ttl,
     p.on_expiry,
     p.max_messages,
     p.max_age,
     p.max_tokens,
     p.carry_over,
     p.delete_rotated,
     p.archive_on_delete,
     p.reopen,
     p.archive_retention,
     p.operation_retention,
     p.created_at,
     p.updated_at
    FROM thread_policies p
   WHERE
         CASE
             WHEN (policy_of.p_policy IS NOT NULL) THEN (p.name = policy_of.p_policy)
             ELSE (p.pattern = ANY (ARRAY[pattern_of(policy_of.p_user_id, policy_of.p_session_id, policy_of.p_topic), 'any'::text]))
         END
   ORDER BY (p.pattern = 'any'::text)
  LIMIT 1;
END;

CREATE OR REPLACE FUNCTION public.policy_ways()
 RETURNS TABLE(named text, pattern text, policy thread_policies)
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 WITH patterns(pattern) AS (
          VALUES ('user'::text), ('session'::text), ('topic'::text), ('user+session'::text), ('user+topic'::text), ('session+topic'::text), ('user+session+topic'::text), ('none'::text)
         )
  SELECT p.name,
     patterns.pattern,
     p.*::thread_policies AS p
    FROM (thread_policies p
      CROSS JOIN patterns)
 UNION ALL
  SELECT NULL::text,
     patterns.pattern,
     counting.policy
    FROM (patterns
      LEFT JOIN LATERAL ( SELECT p.*::thread_policies AS policy
            FROM thread_policies p
           WHERE (p.pattern = ANY (ARRAY[patterns.pattern, 'any'::text]))
           ORDER BY (p.pattern = 'any'::text)
          LIMIT 1) counting ON (true));
END;

CREATE OR REPLACE FUNCTION public.probe_lane(p_provider text, p_key text, p_heads text[], p_probe_ms integer)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
  if not exists (select from thread_operations h
                  where h.provider = any (p_heads) and h.ready_at is not null and h.ready_at <= clock_timestamp()) then
    return false;
  end if;
  update lanes l set probed_at = clock_timestamp()
   where (l.provider, l.key, l.model) = (
           select s.provider, s.key, s.model from lanes s
            where s.provider = p_provider and s.key = p_key and s.model = '' and s.paused_until = never()
              and greatest(s.paused_at, s.probed_at) <= clock_timestamp() - p_probe_ms * interval '1 millisecond'
              for update skip locked);
  return found;
end $function$;

CREATE OR REPLACE FUNCTION public.provider_of(p_thread_id text, p_operation text, p_data jsonb, p_thread_provider text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
  select coalesce(
    p_thread_provider,
    case when p_operation = 'create_thread' then p_data ->> 'provider' end,
    case
      when p_thread_id ~ '^thread_[A-Za-z0-9]{24}$' then 'assistants'
      when p_thread_id ~ '^conv_[0-9a-f]{32,}$' then 'responses'
    end,
    '')
$function$;

CREATE OR REPLACE FUNCTION public.prune_archives(p_limit integer, OUT looked integer, OUT pruned integer, OUT is_round boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '100ms'
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_shortest interval := (select min(p.archive_retention) from thread_policies p);
  v_after bigint;
  v_step bigint[];
begin
  looked := 0;
  pruned := 0;
  is_round := true;
  if v_shortest is not null then
    v_after := take_walk('archives');
  end if;
  if v_after is null then
    return;
  end if;
  select coalesce(array_agg(step.id order by step.id) filter (where step.archived_at < v_now - v_shortest), '{}'), count(*)
    into v_step, looked
    from (select a.id, a.archived_at from thread_archives a where a.id > v_after order by a.id limit p_limit) as step;
  is_round := looked < p_limit or cardinality(v_step) < looked;
  begin
    with old as (
      select a.id, a.thread_id, a.generation, a.operation_id, p.name as policy
        from thread_archives a
        left join threads t on t.id = a.thread_id
       cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
       where a.id = any (v_step) and a.archived_at < v_now - p.archive_retention
         for update of a skip locked
    ), archives as (
      delete from thread_archives a using old where a.id = old.id returning old.policy
    ), messages as (
      insert into unfinished_archives (archive_id, operation_id, thread_id) select old.id, old.operation_id, old.thread_id from old
    ), runs as (
      delete from archived_runs r using old where r.archive_id = old.id
    ), generations as (
      update thread_generations g set archive_id = null from old
       where g.thread_id = old.thread_id and g.generation = old.generation and g.archive_id = old.id
    ), noted as (
      insert into prunings as p (day, policy, archives)
      select current_date, policy, count(*) from archives group by policy
          on conflict (day, policy) do update set archives = p.archives + excluded.archives, last_at = clock_timestamp()
    )
    select count(*) into pruned from archives;
  exception when lock_not_available or deadlock_detected then
    pruned := 0;
  end;
  update sweep_positions s set after = case when is_round then 0 else v_step[looked] end where s.sweep = 'archives';
end $function$;

CREATE OR REPLACE FUNCTION public.prune_operations(p_limit integer, OUT looked integer, OUT pruned integer, OUT is_round boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '100ms'
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_shortest interval := (select min(p.operation_retention) from thread_policies p);
  v_after bigint;
  v_step bigint[];
  v_ids bigint[];
  v_threads text[];
  v_policies text[];
  v_held text[];
begin
  looked := 0;
  pruned := 0;
  is_round := true;
  if v_shortest is not null then
    v_after := take_walk('operations');
  end if;
  if v_after is null then
    return;
  end if;
  select coalesce(array_agg(step.id order by step.id) filter (where step.created_at < v_now - v_shortest), '{}'), count(*)
    into v_step, looked
    from (select o.id, o.created_at from thread_operations o where o.id > v_after order by o.id limit p_limit) as step;
  is_round := looked < p_limit or cardinality(v_step) < looked;
  begin
    select array_agg(old.id), array_agg(old.thread_id), array_agg(old.policy) into v_ids, v_threads, v_policies
      from (select o.id, o.thread_id, p.name as policy
              from thread_operations o
              left join threads t on t.id = o.thread_id
             cross join lateral policy_of(t.policy, t.user_id, t.session_id, t.topic) as p
             where o.id = any (v_step) and o.finished_at < v_now - p.operation_retention and not is_still_needed(o)
               for update of o skip locked) as old;
    -- Turns and sums go over to the thread's row.
    v_held := array(
      select t.id from threads t where t.id = any (v_threads)
      except
      select free.id from (select t.id from threads t where t.id = any (v_threads) for no key update skip locked) as free);
    with gone as (
      select old.* from unnest(v_ids, v_threads, v_policies) as old (id, thread_id, policy) where not old.thread_id = any (v_held)
    ), events as (
      delete from operation_events e using gone where e.thread_id = gone.thread_id and e.operation_id = gone.id returning gone.policy
    ), waiters as (
      delete from operation_waiters w using gone where w.operation_id = gone.id
    ), lanes as (
      delete from lane_runs r using gone where r.operation_id = gone.id
    ), users as (
      delete from user_runs r using gone where r.operation_id = gone.id
    ), operations as (
      delete from thread_operations o using gone where o.id = gone.id returning gone.policy
    ), counted as (
      select policy, 1 as operations, 0 as events, 0 as streams from operations
      union all select policy, 0, 1, 0 from events
      union all select gone.policy, 0, 0, 1 from gone join operation_stream s on s.operation_id = gone.id and s.first_seq = 1
    ), noted as (
      insert into prunings as p (day, policy, operations, events, streams)
      select current_date, policy, sum(c.operations), sum(c.events), sum(c.streams) from counted c group by policy
          on conflict (day, policy) do update
             set operations = p.operations + excluded.operations, events = p.events + excluded.events,
                 streams = p.streams + excluded.streams, last_at = clock_timestamp()
    )
    select count(*) into pruned from operations;
  exception when lock_not_available or deadlock_detected then
    pruned := 0; -- these come up again in the next round
  end;
  update sweep_positions s set after = case when is_round then 0 else v_step[looked] end where s.sweep = 'operations';
end $function$;

CREATE OR REPLACE FUNCTION public.record_events()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  -- Reads the new rows only (the guard left the old status in prev_status): joining the old and the
  -- new transition table would be quadratic.
  insert into operation_events
    (operation_id, thread_id, from_status, to_status, turn, attempt, actor, code, run_id, retry_at, detail)
  select n.id, n.thread_id, n.prev_status, n.status, n.turn, n.attempts,
         case when current_setting('inturn.line', true) = 'on' then current_setting('inturn.actor') else session_actor() end,
         case when n.status not in ('processing', 'completed') then n.error ->> 'code' end,
         n.progress ->> 'run_id',
         case when n.status in ('pending', 'requires_action') then n.ready_at end,
         -- The message may quote what was said.
         case when n.status not in ('processing', 'completed') then nullif(n.error - 'code' - 'message', '{}') end
    from new_rows n
   where n.prev_status is not null;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_behind(p_first thread_operations)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_ids bigint[];
begin
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_first.thread_id and o.place is not null and o.turn is null and o.if_busy = 'reject'
       and o.place > p_first.place and o.place = o.id
     order by o.place limit 1000 for update skip locked);
  if v_ids <> '{}' then
    perform end_waiting(v_ids, 'failed', busy_error(p_first.id));
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_closed(p_thread_id text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_what text;
begin
  select case when t.deleted_at is not null then 'was deleted'
              when exists (select from thread_operations o where o.thread_id = t.id and o.place = started_place()
                              and o.operation = 'delete_thread') then 'is being deleted' end
    into v_what from threads t where t.id = p_thread_id;
  raise check_violation using
    constraint = 'thread_is_open',
    message = case when v_what is null then format('thread %s is closed and takes no more operations', p_thread_id)
                   else format('the conversation of thread %s %s, and it takes no more operations', p_thread_id, v_what) end,
    hint = case when v_what is null
      then 'Use another thread_id, or ask whoever closed the thread (threads.closed_at) to open it again.'
      else format('Use another thread_id, or begin a new conversation under this one once it is deleted: SELECT reopen_thread(%L);', p_thread_id) end;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_delete_of_unfinished()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  if old.finished_at is null then
    raise check_violation using
      constraint = 'unfinished_operation_is_not_deleted',
      message = format('operation %s is %s and cannot be deleted', old.id, old.status),
      hint = 'Cancel it instead: UPDATE thread_operations SET status = ''cancelled'' WHERE id = ' || old.id || ';';
  end if;
  if old.error ->> 'code' = 'merged' and exists (
       select from thread_operations o where o.id = (old.error ->> 'operation_id')::bigint and o.finished_at is null) then
    raise check_violation using
      constraint = 'message_is_still_needed',
      message = format('operation %s cannot be deleted: operation %s takes its message along and is not final', old.id, old.error ->> 'operation_id'),
      hint = 'Delete it when that one is final.';
  end if;
  return old;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_late(p_first thread_operations)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
declare
  v_last bigint;
begin
  if p_first.if_busy is distinct from 'reject' or p_first.place <> p_first.id then
    return false;
  end if;
  select last.id into v_last
    from (select o.id, o.finished_at from thread_operations o
           where o.thread_id = p_first.thread_id and o.turn is not null order by o.turn desc limit 1) as last
   where last.id < p_first.id and last.finished_at > p_first.created_at;
  if v_last is not null then
    perform end_waiting(array[p_first.id], 'failed', busy_error(v_last));
  end if;
  return v_last is not null;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_locked(p_what text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  raise lock_not_available using
    constraint = 'nobody_holds_the_row',
    message = format('%s is held by somebody''s open transaction, and nothing was changed', p_what),
    hint = 'Try again. If it stays so, look for the oldest xact_start in pg_stat_activity.';
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_loss_of_used_policy()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
declare
  v_thread text := (select t.id from threads t where t.policy = old.name limit 1);
begin
  if v_thread is not null then
    raise check_violation using
      constraint = 'policy_is_not_in_use',
      message = format('policy %L is that of thread %L', old.name, v_thread),
      hint = format('Give its threads another one first: UPDATE threads SET policy = NULL WHERE policy = %L;', old.name);
  end if;
  return coalesce(new, old);
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_rewriting_history()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
declare
  v_stack text;
begin
  if tg_op = 'DELETE' then
    get diagnostics v_stack = pg_context;
    if v_stack ~ '\nPL/pgSQL function prune_operations\(integer\) line \d+ at SQL statement$'
       and (select c.relowner from pg_class c where c.oid = tg_relid) = (select r.oid from pg_roles r where r.rolname = current_user) then
      return null;
    end if;
  end if;
  raise check_violation using
    constraint = 'ledger_is_append_only',
    message = format('%s of operation_events is refused: the ledger is append-only', lower(tg_op)),
    hint = 'Read it with SELECT. Its rows are written by inturn''s triggers alone, and go with their operation when the operation_retention of its policy is over.';
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_row(p_row thread_operations)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
begin
  if p_row.thread_id is null or p_row.thread_id !~ '\S' or length(p_row.thread_id) > 255 then
    raise check_violation using
      constraint = 'thread_id_has_1_to_255_characters',
      message = format('thread_id must have 1 to 255 characters, not %s', case when p_row.thread_id ~ '\S' then length(p_row.thread_id) else 0 end),
      hint = 'Write the id of the thread as text: any name of yours, for example ''user:42''.';
  end if;
  if p_row.id is not null then
    raise check_violation using
      constraint = 'operation_id_is_drawn_by_the_line',
      message = format('id %s was sent along, but inturn draws the id itself', p_row.id),
      hint = 'Leave id out of the INSERT. To recognise your own operation, send an idempotency_key.';
  end if;
  if p_row.status <> 'pending' then
    raise check_violation using
      constraint = 'operation_starts_pending',
      message = format('status must be pending for a new operation, not %s', p_row.status),
      hint = 'Leave status out, or write ''pending''. inturn moves it on from there.';
  end if;
  if p_row.idempotency_key = '' or length(p_row.idempotency_key) > 255 then
    raise check_violation using
      constraint = 'idempotency_key_has_1_to_255_characters',
      message = format('idempotency_key must have 1 to 255 characters, not %s', length(p_row.idempotency_key)),
      hint = 'Write a key of your own that names this request, or leave it out.';
  end if;
  if p_row.priority is null or p_row.priority not between -100 and 100 then
    raise check_violation using
      constraint = 'priority_is_between_minus_100_and_100',
      message = format('priority must be a number from -100 to 100, not %s', coalesce(p_row.priority::text, 'null')),
      hint = 'Leave priority out for the usual 0; a higher one is served before lower ones of other threads.';
  end if;
  if length(p_row.user_id) not between 1 and 255 then
    raise check_violation using
      constraint = 'user_id_has_1_to_255_characters',
      message = format('user_id must have 1 to 255 characters, not %s', length(p_row.user_id)),
      hint = 'Write your own id of the user on whose behalf this is asked, or leave it out.';
  end if;
  if p_row.if_busy not in ('enqueue', 'reject', 'interrupt', 'latest', 'merge', 'interrupt+merge') then
    raise check_violation using
      constraint = 'if_busy_is_a_strategy',
      message = format('if_busy must be a strategy, not %L', left(p_row.if_busy, 60)),
      hint = 'Write enqueue, reject, interrupt, latest, merge or interrupt+merge, or leave it out for the thread''s own (threads.if_busy).';
  end if;
  if p_row.debounce_ms not between 1 and 3600000 or p_row.debounce_max_ms not between 1 and 86400000 then
    raise check_violation using
      constraint = 'debounce_is_a_time',
      message = format('debounce_ms %s, debounce_max_ms %s: at most an hour and at most a day', p_row.debounce_ms, p_row.debounce_max_ms),
      hint = 'Write the milliseconds without a new operation after which this one starts, from 1 to 3600000; and the longest wait, up to 86400000.';
  end if;
  raise check_violation using
    constraint = 'operation_starts_unserved',
    message = 'a column that only inturn writes was sent along',
    hint = 'Send only thread_id, operation, data and, if you like, status, priority, idempotency_key, retry, user_id, scheduled_at, if_busy, debounce_ms, debounce_max_ms, created_at and updated_at.';
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_target(p_id bigint, p_thread_id text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_target thread_operations;
begin
  select * into v_target from thread_operations o where o.id = p_id;
  if v_target.thread_id is distinct from p_thread_id then
    raise check_violation using
      constraint = 'target_is_of_the_thread',
      message = format('there is no operation %s on thread %s', p_id, p_thread_id),
      hint = 'Leave operation_id out to cancel what is active, or write one of: '
             || format('SELECT id, operation, status FROM thread_operations WHERE thread_id = %L;', p_thread_id);
  end if;
  if v_target.operation in ('cancel_run', 'submit_tool_outputs') then
    raise check_violation using
      constraint = 'target_stands_in_line',
      message = format('operation %s is a %s and has no run to cancel', p_id, v_target.operation),
      hint = format('To withdraw it while it is pending: UPDATE thread_operations SET status = ''cancelled'' WHERE id = %s;', p_id);
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_tool_call()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise check_violation using
    constraint = 'tool_call_is_guarded',
    message = format('%s of tool_calls is refused: only inturn writes what is asked and answered', lower(tg_op)),
    hint = 'To answer a call: INSERT INTO thread_operations (thread_id, operation, data) VALUES (''user:42'', ''submit_tool_outputs'', ''{"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}'');';
end $function$;

CREATE OR REPLACE FUNCTION public.refuse_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise check_violation using
    constraint = tg_table_name || '_is_not_truncated',
    message = format('%s cannot be truncated: unfinished operations and the ledger would be lost', tg_table_name),
    hint = 'Cancel what waits, then DELETE the finished rows you no longer need.';
end $function$;

CREATE OR REPLACE FUNCTION public.refused_if_busy(p_row thread_operations)
 RETURNS thread_operations
 LANGUAGE plpgsql
AS $function$
begin
  if 'fail' = any (when_busy(p_row.if_busy, situation_before(p_row.thread_id, p_row.place))) then
    p_row.error := busy_error((
      select o.id from thread_operations o
       where o.thread_id = p_row.thread_id and o.place is not null order by o.place limit 1));
    p_row.status := 'failed';
    p_row.place := null;
    p_row.finished_at := p_row.created_at;
  end if;
  return p_row;
end $function$;

CREATE OR REPLACE FUNCTION public.release_hold(p_id bigint)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '2s'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
begin
  perform set_config('inturn.actor', session_actor(), true);
  if end_hold((held_hold(p_id)).id, 'completed', null) then
    perform wake_dispatchers();
  end if;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('hold %s or the next of its line', p_id));
end $function$;

CREATE OR REPLACE FUNCTION public.release_lost_operations(p_dispatcher text)
 RETURNS bigint[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_signed_on text[] := array(select d.id from dispatchers d);
  v_lost bigint[];
  v_released bigint[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  v_lost := array(
    select o.id from thread_operations o
     where o.status = 'processing' and not o.claimed_by = any (v_signed_on) and o.held_until is null
       and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
     limit 1000 for update skip locked);
  if v_lost <> '{}' then
    -- Look again, now that they are locked: one may have been released by somebody else meanwhile and
    -- claimed by a dispatcher that was not on the list before.
    v_signed_on := array(select d.id from dispatchers d);
    with released as (
      update thread_operations o set status = 'pending', claimed_by = null, ready_at = clock_timestamp()
       where o.id = any (v_lost) and not o.claimed_by = any (v_signed_on) and o.held_until is null
         and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
      returning o.id
    )
    select array_agg(r.id) into v_released from released r;
  end if;
  if v_released is not null then
    perform wake_dispatchers();
  end if;
  return coalesce(v_released, '{}');
end $function$;

CREATE OR REPLACE FUNCTION public.remember_last_turn()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  update threads t
     set last_turn = greatest(t.last_turn, gone.turn),
         messages_so_far = greatest(t.messages_so_far, gone.messages), runs_so_far = greatest(t.runs_so_far, gone.runs),
         input_tokens_so_far = greatest(t.input_tokens_so_far, gone.input_tokens),
         output_tokens_so_far = greatest(t.output_tokens_so_far, gone.output_tokens)
    from (select thread_id, max(turn) as turn, max(messages_so_far) as messages, max(runs_so_far) as runs,
                 max(input_tokens_so_far) as input_tokens, max(output_tokens_so_far) as output_tokens
            from old_rows group by thread_id) as gone
   where t.id = gone.thread_id and t.last_turn < gone.turn;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.renew_hold(p_id bigint, p_ms integer)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '2s'
AS $function$
declare
  v_id bigint;
  v_until timestamptz;
begin
  if p_ms is null or p_ms not between 100 and 86400000 then
    raise check_violation using
      constraint = 'lease_is_a_time',
      message = format('a hold is renewed for 100 to 86400000 milliseconds, not %s', coalesce(p_ms::text, 'null')),
      hint = format('For a minute from now: SELECT renew_hold(%s, 60000);', p_id);
  end if;
  v_id := (held_hold(p_id)).id;
  update thread_operations o set held_until = clock_timestamp() + p_ms * interval '1 millisecond'
   where o.id = v_id
  returning o.held_until into v_until;
  return v_until;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('hold %s', p_id));
end $function$;

CREATE OR REPLACE FUNCTION public.reopen_thread(p_thread_id text)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET lock_timeout TO '2s'
 SET enable_seqscan TO 'off'
AS $function$
declare
  v_thread threads;
  v_deletion bigint;
begin
  select * into v_thread from threads t where t.id = p_thread_id for no key update;
  if v_thread.closed_at is null then
    raise check_violation using
      constraint = 'thread_is_closed',
      message = case when v_thread.id is null then format('there is no thread %s', p_thread_id)
                     else format('thread %s is open', p_thread_id) end,
      hint = 'Nothing is to be done: its next operation is served.';
  end if;
  select o.id into v_deletion from thread_operations o
   where o.thread_id = p_thread_id and o.place is not null and o.operation = 'delete_thread' order by o.place limit 1;
  if v_deletion is not null then
    raise check_violation using
      constraint = 'deletion_is_over',
      message = format('operation %s is about to delete the conversation of thread %s', v_deletion, p_thread_id),
      hint = 'Open the thread when that operation is final, or cancel it before it begins.';
  end if;
  update threads t
     set closed_at = null, deleted_at = null, updated_at = clock_timestamp(),
         ended_before = case when t.deleted_at is not null then nextval('thread_operations_id_seq') else t.ended_before end
   where t.id = p_thread_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', p_thread_id));
end $function$;

CREATE OR REPLACE FUNCTION public.replace_provider_thread(p_dispatcher text, p_id bigint, p_attempts integer, p_ended_by text, p_copy jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '1s'
AS $function$
declare
  v_operation thread_operations;
  v_thread threads;
  v_noted jsonb;
begin
  select * into v_operation from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return null;
  end if;
  v_noted := jsonb_build_object('copying', null);
  if v_operation.progress ? 'assigned' then
    return v_noted || jsonb_build_object('assigned', v_operation.progress -> 'assigned');
  end if;
  select * into v_thread from threads t where t.id = v_operation.thread_id for no key update;
  if v_thread.provider_thread_id is not null then
    update thread_generations g set ended_by = p_ended_by
     where g.thread_id = v_thread.id and g.generation = v_thread.generation;
  end if;
  v_noted := v_noted || jsonb_build_object('assigned', p_copy - 'metadata' || jsonb_build_object(
    'generation', take_copy(v_thread.id, p_copy),
    'ended', case when v_thread.provider_thread_id is not null then jsonb_build_object(
      'generation', v_thread.generation, 'provider_thread_id', v_thread.provider_thread_id) end));
  update threads t set lifecycle_operation_id = null where t.id = v_thread.id and t.lifecycle_operation_id = p_id;
  update thread_operations o set intent = null, progress = coalesce(o.progress, '{}') || v_noted where o.id = p_id;
  return v_noted;
end $function$;

CREATE OR REPLACE FUNCTION public.request_rotations(p_dispatcher text, p_threads text[], OUT rotates boolean, OUT ready boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_thread threads;
  v_id bigint;
  v_asked text[] := '{}';
begin
  ready := false;
  rotates := some_policy_rotates();
  if not rotates then
    return;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);
  for v_thread in
    select t.* from threads t where t.id = any (p_threads) and is_to_rotate(t) for no key update skip locked
  loop
    continue when not is_to_rotate(v_thread); -- somebody else has just asked
    insert into thread_operations (thread_id, operation) values (v_thread.id, 'rotate_thread') returning id into v_id;
    -- Before all who wait; whoever is started, or is sent along with him, stands before that.
    update thread_operations o set place = -o.id where o.id = v_id;
    update threads t set lifecycle_operation_id = v_id where t.id = v_thread.id;
    -- Who was the head until now loses his mark, unless somebody's transaction holds him: then a claim sees to it.
    update thread_operations o set ready_at = null
     where o.id = (select l.id from thread_operations l
                    where l.id = (select s.id from thread_operations s
                                   where s.thread_id = v_thread.id and s.place > -v_id order by s.place limit 1)
                      and l.status = 'pending' and l.ready_at is not null and l.turn is null for update skip locked);
    v_asked := v_asked || v_thread.id;
  end loop;
  if v_asked <> '{}' then
    perform mark_heads((next_in_line(v_asked)).waiting);
    perform wake_dispatchers();
    ready := true;
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.resume_lane(p_provider text, p_key text, p_model text DEFAULT ''::text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
declare
  v_rested boolean;
begin
  select l.paused_until > clock_timestamp() into v_rested
    from lanes l where l.provider = p_provider and l.key = p_key and l.model = p_model for update;
  if not found then
    raise no_data_found using
      message = format('there is no lane %s of %s', lane_name(p_key, p_model), p_provider),
      hint = 'Those there are: select provider, key, model, state from lane_states;';
  end if;
  update lanes l
     set paused_at = null, paused_until = null, reason = null, strikes = 0, probed_at = null, updated_at = clock_timestamp()
   where l.provider = p_provider and l.key = p_key and l.model = p_model;
  return coalesce(v_rested, false);
end $function$;

CREATE OR REPLACE FUNCTION public.resume_thread(p_thread_id text, OUT operation_id bigint, OUT was text)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '2s'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
declare
  v_turn bigint;
begin
  perform set_config('inturn.actor', session_actor(), true);
  select o.id, 'held' into operation_id, was
    from thread_operations o
   where o.id = (select f.id from thread_operations f
                  where f.thread_id = p_thread_id and f.place is not null order by f.place limit 1)
     and o.ready_at = never() for update;
  if found then
    update thread_operations o
       set ready_at = clock_timestamp(),
           intent = case when o.error ->> 'code' = 'outcome_unknown' then o.intent || '{"resend": true}' else o.intent end
     where o.id = operation_id;
    perform wake_dispatchers();
  else
    select failure.operation_id, 'halted' into operation_id, was
      from unresumed_failure(p_thread_id) as failure where failure.on_failure = 'halt';
    perform from thread_operations o where o.id = operation_id for update;
    -- Once more, now that nobody else can resume the line or send the operation back.
    select failure.turn into v_turn
      from unresumed_failure(p_thread_id) as failure
     where failure.on_failure = 'halt' and failure.operation_id = resume_thread.operation_id;
    if not found then
      raise check_violation using
        constraint = 'thread_waits_for_an_operator',
        message = format('thread %s is neither halted nor is an operation of it held', p_thread_id),
        hint = 'Those that wait for you: SELECT * FROM thread_states WHERE state IN (''halted'', ''held'');';
    end if;
    update threads t set resumed_turn = v_turn where t.id = p_thread_id; -- its trigger marks the head
  end if;
  -- The status stays, so no trigger records it.
  insert into operation_events (operation_id, thread_id, from_status, to_status, turn, attempt, actor, run_id)
  select o.id, o.thread_id, o.status, o.status, o.turn, o.attempts, session_actor(), o.progress ->> 'run_id'
    from thread_operations o where o.id = operation_id;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('thread %s', p_thread_id));
end $function$;

CREATE OR REPLACE FUNCTION public.retry_operation(p_id bigint, p_at text, OUT thread_id text, OUT place bigint)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '2s'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_old thread_operations;
  v_thread threads;
  v_known jsonb;
begin
  if p_at is null or p_at not in ('head', 'tail') then
    raise check_violation using
      constraint = 'place_is_head_or_tail',
      message = format('an operation goes back to the head or the tail of its line, not to %L', p_at),
      hint = format('Write SELECT retry_operation(%s, ''head''), or ''tail''.', p_id);
  end if;
  perform set_config('inturn.actor', session_actor(), true);
  select * into v_old from thread_operations o where o.id = p_id for update;
  if not found then
    raise check_violation using
      constraint = 'operation_exists',
      message = format('there is no operation %s', p_id),
      hint = 'The failed ones: SELECT id, thread_id, failed_at, code FROM dead_letters;';
  end if;
  if v_old.operation in ('cancel_run', 'submit_tool_outputs') then
    raise check_violation using
      constraint = 'only_what_stood_in_line_goes_back',
      message = format('operation %s is a %s, which stands in no line', p_id, v_old.operation),
      hint = 'To ask for the same once more, insert a new one.';
  end if;
  if v_old.status not in ('failed', 'cancelled') then
    raise check_violation using
      constraint = 'only_failed_and_cancelled_go_back',
      message = format('operation %s is %s: only what failed or was cancelled goes back into its line', p_id, v_old.status),
      hint = case when v_old.status = 'completed' then 'To have the same done once more, insert a new operation.'
                  when v_old.ready_at = never() then format('It is held: SELECT resume_thread(%L) has it served now.', v_old.thread_id)
                  else 'It is in its line already, and is served in its turn.' end;
  end if;
  if v_old.error ->> 'code' = 'merged' then
    raise check_violation using
      constraint = 'merged_operation_is_not_retried',
      message = format('operation %s was merged: its message went along with operation %s', p_id, v_old.error ->> 'operation_id'),
      hint = format('Send that one back instead: SELECT retry_operation(%s, %L);', v_old.error ->> 'operation_id', p_at);
  end if;
  if v_old.progress ? 'erased' then
    raise check_violation using
      constraint = 'erased_operation_is_not_retried',
      message = format('what operation %s was to do was erased', p_id),
      hint = 'Insert a new operation instead.';
  end if;
  select * into v_thread from threads t where t.id = v_old.thread_id;
  if v_thread.closed_at is not null and v_old.operation <> 'delete_thread' then
    perform refuse_closed(v_old.thread_id);
  end if;

  thread_id := v_old.thread_id;
  place := nextval('thread_operations_id_seq');
  if p_at = 'head' then
    place := -place; -- the later, the further ahead; whoever is started stands before that
  end if;
  -- Its turn leaves with it, and is never given again.
  if v_old.turn is not null then
    insert into threads (id, last_turn) values (v_old.thread_id, v_old.turn)
        on conflict (id) do update set last_turn = excluded.last_turn where threads.last_turn < excluded.last_turn;
  end if;
  if not worked_elsewhere(v_old, v_thread.provider_thread_id) then
    v_known := jsonb_build_object('sent_back', v_old.turn) || v_old.progress
      - '{run_id, run_since, answered, asked, abandoned, stopping, foreign_run, missing, repaired, overwritten}'::text[]
      || case when v_old.progress ? 'run_id' then jsonb_build_object('failed_run_ids',
           coalesce(v_old.progress -> 'failed_run_ids', '[]') - (v_old.progress ->> 'run_id') || (v_old.progress -> 'run_id'))
         else '{}' end
      || case when v_thread.generation > 0 then jsonb_build_object('generation', v_thread.generation) else '{}' end;
    v_old.intent := v_old.intent || '{"sent_back": true}';
  else
    v_old.intent := null;
  end if;
  if v_old.id < v_thread.ended_before then
    v_known := coalesce(v_known, '{}') || jsonb_build_object('rejoined', abs(retry_operation.place));
  end if;
  update thread_operations o
     set status = 'pending', place = retry_operation.place, turn = null, provider = '', head_since = null, ready_at = null,
         if_busy = null, debounce_ms = null, debounce_max_ms = null, -- it stands where the operator has put it
         intent = v_old.intent, progress = v_known, failures = 0, started_at = null, finished_at = null, result = null, error = null
   where o.id = p_id;
  -- Who was the head until now loses his mark, unless somebody's transaction holds him: then a claim sees to it.
  update thread_operations o set ready_at = null
   where o.id = (select l.id from thread_operations l
                  where l.id = (select s.id from thread_operations s
                                 where s.thread_id = v_old.thread_id and s.place is not null order by s.place offset 1 limit 1)
                    and l.status = 'pending' and l.ready_at is not null and l.turn is null for update skip locked);
  if v_old.operation = 'delete_thread' then
    perform make_way(array[p_id]);
  end if;
  if mark_heads((next_in_line(array[v_old.thread_id])).waiting) > 0 then
    perform wake_dispatchers();
  end if;
exception when lock_not_available or deadlock_detected then
  perform refuse_locked(format('operation %s or its thread', p_id));
end $function$;

CREATE OR REPLACE FUNCTION public.room_before_rotation(t threads)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
  select least(p.max_messages - messages_of_generation(t),
               case when so_far.input_tokens + so_far.output_tokens - g.tokens_before >= p.max_tokens
                      or t.generation_since <= clock_timestamp() - p.max_age then 0 end)
    from policy_of(t.policy, t.user_id, t.session_id, t.topic) as p, thread_generations g,
         thread_totals(t.id, 9223372036854775807) as so_far
   where g.thread_id = t.id and g.generation = t.generation
$function$;

CREATE OR REPLACE FUNCTION public.session_actor()
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
  select case when current_setting('application_name') = '' then session_user::text
              else session_user || ' (' || current_setting('application_name') || ')' end
$function$;

CREATE OR REPLACE FUNCTION public.settle_and_claim(p_dispatcher text, p_ids bigint[], p_outcomes jsonb, p_threads text[], p_free integer, p_providers text[], p_default_provider text, p_priorities smallint[], p_floors timestamp with time zone[], p_awake boolean, OUT late integer, OUT emptied text[], OUT oldest_xid xid8, OUT next_xid xid8, OUT claimed text, OUT full_house boolean, OUT priorities smallint[], OUT floors timestamp with time zone[])
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_snapshot pg_snapshot := pg_current_snapshot();
  v_actor text := set_config('inturn.actor', p_dispatcher, true);
  v_claim record;
  v_claimed text[];
  v_started text[];
  v_room integer := p_free;
  v_next record;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      message = 'a dispatcher needs read committed: it must see what others have committed since its last statement',
      hint = 'Set it for the role of the dispatcher: alter role … set default_transaction_isolation = ''read committed'';';
  end if;
  oldest_xid := pg_snapshot_xmin(v_snapshot);
  -- The snapshot's end is not above all that are open: it is the newest that is over, and one.
  next_xid := case when p_threads = '{}' then pg_snapshot_xmax(v_snapshot) else pg_current_xact_id() end;
  if p_awake then
    update dispatchers d set asleep = false
     where d.id = (select s.id from dispatchers s where s.id = p_dispatcher and s.asleep for update skip locked);
  end if;

  if p_ids <> '{}' then
    late := settle_operations(p_dispatcher, p_ids, p_outcomes);
    if jsonb_path_exists(p_outcomes, '$.*.status ? (@ == "failed")') then
      perform cancel_rest(p_threads);
    end if;
  end if;
  if p_free > 0 then
    priorities := coalesce(p_priorities, head_priorities(p_providers));
    floors := p_floors;
    if p_priorities is not null and heads_between(p_providers, p_priorities) then
      priorities := head_priorities(p_providers);
      floors := null;
    end if;
    v_claim := claim_heads(p_dispatcher, p_free, p_providers, p_default_provider, priorities, floors);
    v_claimed := v_claim.claimed;
    v_room := p_free - v_claim.met;
    floors := v_claim.floors;
  end if;
  full_house := p_free > 0 and v_room <= 0;

  if p_threads <> '{}' then
    select * into v_next from next_in_line(p_threads);
    emptied := v_next.empty;
    if v_room > 0 and v_next.waiting <> '{}' then
      -- Nobody older waits, so the next of these lines start at once and need no mark.
      begin
        v_started := start_operations(p_dispatcher, arranged(v_next.waiting[:v_room]), p_default_provider);
        v_claimed := v_claimed || v_started;
        if cardinality(v_started) = cardinality(v_next.waiting[:v_room]) then
          v_next.waiting := v_next.waiting[v_room + 1:];
        else
          -- Overtaken meanwhile by somebody who saw a busy line and did not mark himself.
          v_next.waiting := (next_in_line(p_threads)).waiting;
        end if;
      exception when unique_violation or deadlock_detected or lock_not_available then
        null; -- somebody's transaction holds one of them: all are marked below instead
      end;
    end if;
    if v_next.waiting <> '{}' and mark_heads(v_next.waiting) > 0 then
      perform wake_dispatchers();
    end if;
    if v_next.somebody_waits then
      perform notify_waiters(p_ids);
    end if;
  end if;
  claimed := '[' || coalesce(array_to_string(v_claimed, ','), '') || ']';
end $function$;

CREATE OR REPLACE FUNCTION public.settle_cancellations(p_targets bigint[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
declare
  v_ids bigint[];
begin
  v_ids := array(
    select c.id from thread_operations c
     where c.target_id = any (p_targets) and c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       for update skip locked);
  update thread_operations c
     set status = 'completed', finished_at = clock_timestamp(),
         result = jsonb_build_object('outcome', o.status, 'operation_id', o.id)
    from thread_operations o
   where c.id = any (v_ids) and o.id = c.target_id and o.finished_at is not null;
  perform notify_waiters(v_ids);
end $function$;

CREATE OR REPLACE FUNCTION public.settle_noted(p_limit integer)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_note unsettled_outcomes;
  v_thread text;
  v_count integer := 0;
begin
  for v_note in select * from unsettled_outcomes order by noted_at for update skip locked loop
    select o.thread_id into v_thread from thread_operations o where o.id = v_note.operation_id for update skip locked;
    continue when not found;
    delete from unsettled_outcomes u where u.operation_id = v_note.operation_id;
    perform set_config('inturn.actor', v_note.claimed_by, true);
    if settle_operations(v_note.claimed_by, array[v_note.operation_id],
                         jsonb_build_object(v_note.operation_id, v_note.outcome)) = 0 then
      perform cancel_rest(array[v_thread]);
      perform mark_heads((next_in_line(array[v_thread])).waiting);
      perform notify_waiters(array[v_note.operation_id]);
      v_count := v_count + 1;
      exit when v_count = p_limit;
    end if;
  end loop;
  if v_count > 0 then
    perform wake_dispatchers();
  end if;
  return v_count;
end $function$;

CREATE OR REPLACE FUNCTION public.settle_operations(p_dispatcher text, p_ids bigint[], p_outcomes jsonb)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
declare
  v_free bigint[] := p_ids;
  v_settled integer;
  v_noted integer := 0;
begin
  loop
    begin
      update thread_operations o
         set status = p_outcomes -> o.id::text ->> 'status',
             result = coalesce(p_outcomes -> o.id::text -> 'result', o.result),
             error = p_outcomes -> o.id::text -> 'error',
             failures = o.failures + coalesce((p_outcomes -> o.id::text ->> 'failures')::integer, 0),
             ready_at = case when (p_outcomes -> o.id::text ->> 'held')::boolean then never()
                             else clock_timestamp() + (p_outcomes -> o.id::text ->> 'retry_ms')::integer * interval '1 millisecond' end,
             finished_at = case when p_outcomes -> o.id::text ->> 'status' in ('completed', 'failed', 'cancelled') then clock_timestamp() end,
             place = case when p_outcomes -> o.id::text ->> 'status' in ('pending', 'requires_action', 'processing') then o.place end,
             -- Only a hold stays in processing: from now on its caller has the thread, and no dispatcher.
             claimed_by = case when p_outcomes -> o.id::text ->> 'status' = 'processing' then o.created_by end,
             held_until = clock_timestamp() + (p_outcomes -> o.id::text ->> 'hold_ms')::integer * interval '1 millisecond',
             (messages_so_far, runs_so_far, input_tokens_so_far, output_tokens_so_far) = (
               select so_far.messages, so_far.runs, so_far.input_tokens, so_far.output_tokens
                 from totals_after(o.thread_id, o.turn, o.operation, o.merges, p_outcomes -> o.id::text -> 'result') as so_far
                where p_outcomes -> o.id::text ->> 'status' in ('completed', 'failed', 'cancelled'))
       where o.id = any (v_free)
         and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer;
      get diagnostics v_settled = row_count;
      exit;
    exception when lock_not_available or deadlock_detected then
      -- Somebody's transaction holds one of the rows: leave it out, it must not hold up the others.
      v_free := array(select o.id from thread_operations o where o.id = any (p_ids) for update skip locked);
    end;
  end loop;
  -- With the row in hand: an output that was written before found nobody who waits.
  if jsonb_path_exists(p_outcomes, '$.*.status ? (@ == "requires_action")') then
    perform go_on_where_answered(v_free);
  end if;
  if v_free <> p_ids then
    insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome)
    select o.id, o.attempts, o.claimed_by, p_outcomes -> o.id::text
      from thread_operations o
     where o.id = any (p_ids) and not o.id = any (v_free)
       and o.claimed_by = p_dispatcher and o.attempts = (p_outcomes -> o.id::text ->> 'attempts')::integer
        on conflict (operation_id) do update
           set attempts = excluded.attempts, claimed_by = excluded.claimed_by, outcome = excluded.outcome;
    get diagnostics v_noted = row_count;
  end if;
  if exists (select from thread_operations c
              where c.target_id = any (p_ids) and c.status = 'pending' and c.place is null) then
    perform settle_cancellations(p_ids);
  end if;
  return cardinality(p_ids) - v_settled - v_noted;
end $function$;

CREATE OR REPLACE FUNCTION public.sign_off_silent(p_dispatcher text, p_beat text, p_lease_is_over boolean)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  delete from dispatchers d
   where d.id = (select s.id from dispatchers s
                  where s.id = p_dispatcher and extract(epoch from s.beat_at)::text = p_beat
                    and (p_lease_is_over or s.direct and pg_try_advisory_xact_lock(dispatcher_lock_key(s.id)))
                    for update skip locked);
  return found;
end $function$;

CREATE OR REPLACE FUNCTION public.situation_before(p_thread_id text, p_place bigint)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
AS $function$
begin
  return coalesce(nullif(concat_ws(', ',
    (select case o.status when 'pending' then 'retrying' else o.status end from thread_operations o
      where o.thread_id = p_thread_id and o.place = started_place()),
    (select 'others wait' from thread_operations o
      where o.thread_id = p_thread_id and o.place > started_place() and o.place < p_place order by o.place limit 1)), ''), 'idle');
end $function$;

CREATE OR REPLACE FUNCTION public.some_policy_rotates()
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select exists (select from thread_policies p where num_nonnulls(p.max_messages, p.max_tokens, p.max_age) > 0)
$function$;

CREATE OR REPLACE FUNCTION public.start_operations(p_dispatcher text, p_ids bigint[], p_default_provider text)
 RETURNS text[]
 LANGUAGE plpgsql
AS $function$
declare
  v_started text[];
begin
  with started as (
    update thread_operations o
       set status = 'processing',
           place = started_place(), -- a started operation stays first, whoever commits an earlier place now
           claimed_by = p_dispatcher,
           attempts = o.attempts + 1,
           ready_at = null,
           intent = case when not is_left_behind(o, t.generation, t.provider_thread_id) then o.intent end,
           progress = case when not is_left_behind(o, t.generation, t.provider_thread_id) then o.progress
                           when o.progress ? 'rejoined' then jsonb_build_object('rejoined', o.progress -> 'rejoined') end,
           head_since = coalesce(o.head_since, clock_timestamp()),
           provider = coalesce(t.provider, nullif(o.provider, ''), p_default_provider),
           turn = coalesce(o.turn, greatest(t.last_turn, coalesce((
             select m.turn from thread_operations m
              where m.thread_id = o.thread_id and m.turn is not null order by m.turn desc limit 1), 0)) + 1),
           started_at = coalesce(o.started_at, clock_timestamp())
      from threads t
     where o.id = any (p_ids) and t.id = o.thread_id
       and o.status in ('pending', 'requires_action')
       and o.id = (select f.id from thread_operations f
                    where f.thread_id = o.thread_id and f.place is not null order by f.place limit 1)
       and (t.on_failure = 'continue' or may_start(o.id))
    returning o.id, o.thread_id, o.operation, o.data, o.retry, coalesce(o.user_id, t.user_id) as user_id, o.merges, cancellation_of(o.id) as cancellation, o.turn, o.attempts, o.failures, o.provider, o.intent, o.progress,
              t.provider_thread_id, t.last_item_id, t.last_message_at, t.generation,
              o.operation <> 'delete_thread' and (t.deleted_at is not null or o.id < t.ended_before and not has_rejoined(o, t.ended_before)) as is_ended, clock_timestamp() as claimed_at,
              extract(epoch from clock_timestamp() - (o.intent ->> 'at')::timestamptz) * 1000 as intent_age_ms
  )
  select array_agg(row_to_json(s)::text) into v_started from started s;
  return v_started;
end $function$;

CREATE OR REPLACE FUNCTION public.started_place()
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$ select -9000000000000000 $function$;

CREATE OR REPLACE FUNCTION public.still_debounces(p_first thread_operations)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
declare
  v_now timestamptz := clock_timestamp();
  v_due timestamptz;
begin
  select least(greatest(newest.created_at, newest.scheduled_at) + p_first.debounce_ms * interval '1 millisecond',
               greatest(p_first.created_at, p_first.scheduled_at) + p_first.debounce_max_ms * interval '1 millisecond')
    into v_due
    from (select o.created_at, o.scheduled_at from thread_operations o
           where o.thread_id = p_first.thread_id and o.place is not null order by o.place desc limit 1) as newest;
  -- Later than that only by a clock that was set back.
  if v_due <= v_now or v_due > v_now + p_first.debounce_ms * interval '1 millisecond' then
    return false;
  end if;
  perform mark_heads(array[p_first.id]);
  update thread_operations o set ready_at = v_due where o.id = p_first.id and o.ready_at is not null;
  return true;
end $function$;

CREATE OR REPLACE FUNCTION public.stood_in_line(p_id bigint, p_thread_id text, p_place bigint, p_created_at timestamp with time zone, p_at timestamp with time zone)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select case when p_place = p_id then p_created_at <= p_at
              else (select max(e.at) from operation_events e
                     where e.thread_id = p_thread_id and e.operation_id = p_id
                       and e.to_status = 'pending' and e.from_status in ('failed', 'cancelled', 'scheduled')) <= p_at end
$function$;

CREATE OR REPLACE FUNCTION public.supersede_waiting(p_thread_id text)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
declare
  v_latest record;
  v_ids bigint[];
begin
  select o.id, o.place into v_latest from thread_operations o
   where o.thread_id = p_thread_id and o.place is not null and o.turn is null and o.if_busy = 'latest'
   order by o.place desc limit 1;
  if not found then
    return 0;
  end if;
  v_ids := array(
    select o.id from thread_operations o
     where o.thread_id = p_thread_id and o.place is not null and o.place < v_latest.place and o.turn is null
       and o.operation in ('add_message', 'create_run', 'add_message_and_run') and num_nonnulls(o.intent, o.progress) = 0
     order by o.place limit 1000 for update skip locked);
  perform end_waiting(v_ids, 'cancelled', jsonb_build_object('code', 'superseded', 'operation_id', v_latest.id,
    'message', format('Operation %s came after it, and supersedes those who wait.', v_latest.id)));
  return cardinality(v_ids);
end $function$;

CREATE OR REPLACE FUNCTION public.sweep_lines(p_dispatcher text, p_after text, p_limit integer, OUT last_thread text, OUT seen integer, OUT marked integer)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_threads text[];
begin
  perform set_config('inturn.actor', p_dispatcher, true);
  with recursive waiting as (
    (select o.thread_id, 1 as n from thread_operations o
      where o.place is not null and o.thread_id > p_after order by o.thread_id, o.place limit 1)
    union all
    select (select o.thread_id from thread_operations o
             where o.place is not null and o.thread_id > w.thread_id order by o.thread_id, o.place limit 1), w.n + 1
      from waiting w where w.thread_id is not null and w.n < p_limit
  )
  select array_agg(w.thread_id) into v_threads from waiting w where w.thread_id is not null;
  seen := coalesce(cardinality(v_threads), 0);
  last_thread := case when seen = p_limit then v_threads[seen] end;
  marked := 0;
  if seen = 0 then
    return;
  end if;
  marked := mark_heads((next_in_line(v_threads)).waiting);

  -- A mark in the future that no retry and no pause explains, or a row from the future: the clock was set back.
  with pulled_back as (
    update thread_operations o set ready_at = clock_timestamp()
     where o.id = any (array(
             select h.id from thread_operations h
              where h.id = any (array(
                      select (select f.id from thread_operations f
                               where f.thread_id = line.thread_id and f.place is not null order by f.place limit 1)
                        from unnest(v_threads) as line (thread_id)))
                and h.ready_at > clock_timestamp() + interval '1 second' and h.ready_at <> never()
                and (h.debounce_ms is null or h.turn is not null
                     or h.ready_at > clock_timestamp() + h.debounce_ms * interval '1 millisecond')
                and (h.attempts = 0 or h.updated_at > clock_timestamp() + interval '1 second')
                for update skip locked))
    returning 1
  )
  select marked + count(*) into marked from pulled_back;
  if marked > 0 then
    perform wake_dispatchers();
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.take_cancellations(p_dispatcher text, OUT wanted jsonb, OUT ready boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET enable_incremental_sort TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '20ms'
AS $function$
declare
  v_withdrawn bigint[];
  v_woken bigint[];
  v_done bigint[];
begin
  wanted := '{}';
  ready := false;
  if not exists (select from thread_operations c
                  where c.status = 'pending' and c.place is null and c.operation = 'cancel_run') then
    return;
  end if;
  perform set_config('inturn.actor', p_dispatcher, true);

  select coalesce(jsonb_object_agg(o.id, cancellation_of(o.id)), '{}') into wanted
    from thread_operations c join thread_operations o on o.id = c.target_id
   where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
     and o.status = 'processing' and o.claimed_by = p_dispatcher;

  v_withdrawn := array(
    select o.id from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and o.status in ('pending', 'scheduled') and not is_under_way(o) and not owes_messages(o, c)
     limit 1000 for update of o skip locked);
  if v_withdrawn <> '{}' then
    update thread_operations o
       set status = 'cancelled', place = null, ready_at = null, finished_at = clock_timestamp(),
           error = cancelled_by(cancellation_of(o.id)),
           -- A message that was added without its run stays.
           result = case when o.turn is not null and o.progress ? 'message_id' then jsonb_build_object(
                      'provider_thread_id', (select t.provider_thread_id from threads t where t.id = o.thread_id),
                      'message_id', o.progress -> 'message_id') end
     where o.id = any (v_withdrawn);
    perform settle_cancellations(v_withdrawn);
    perform notify_waiters(v_withdrawn);
    ready := mark_heads((next_in_line(array(
      select distinct o.thread_id from thread_operations o where o.id = any (v_withdrawn)))).waiting) > 0;
  end if;

  -- Once: what a claim that knew of it has left says so in its error. The coalesce keeps the planner from
  -- walking all the heads that are ready.
  v_woken := array(
    select o.id from thread_operations c join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and o.status in ('pending', 'requires_action') and (o.status = 'requires_action' or is_under_way(o) or owes_messages(o, c))
       and coalesce(o.ready_at, clock_timestamp()) > clock_timestamp()
       and o.error -> 'operation_id' is distinct from cancelled_by(cancellation_of(o.id)) -> 'operation_id'
     limit 1000 for update of o skip locked);
  if v_woken <> '{}' then
    update thread_operations o set ready_at = clock_timestamp() where o.id = any (v_woken);
    ready := true;
  end if;

  v_done := array(
    select c.id from thread_operations c left join thread_operations o on o.id = c.target_id
     where c.status = 'pending' and c.place is null and c.operation = 'cancel_run'
       and (o.id is null or o.finished_at is not null)
     limit 1000 for update of c skip locked);
  if v_done <> '{}' then
    update thread_operations c
       set status = 'completed', finished_at = clock_timestamp(),
           -- It was in time only where the error of its target names it: then its own row was held.
           result = jsonb_strip_nulls(jsonb_build_object('operation_id', c.target_id, 'outcome', coalesce((
                      select o.status from thread_operations o
                       where o.id = c.target_id
                         and o.error -> 'operation_id' in (to_jsonb(c.id), c.data -> 'interrupted_by')), 'nothing_to_do')))
     where c.id = any (v_done);
    perform notify_waiters(v_done);
  end if;
  if ready then
    perform wake_dispatchers();
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.take_copy(p_thread_id text, p_copy jsonb)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
declare
  v_generation integer;
begin
  update threads t
     set provider_thread_id = p_copy ->> 'provider_thread_id',
         last_item_id = p_copy ->> 'last_item_id',
         last_message_at = (p_copy ->> 'last_message_at')::timestamptz,
         metadata = p_copy -> 'metadata',
         updated_at = clock_timestamp(), last_active_at = clock_timestamp()
   where t.id = p_thread_id
  returning t.generation into v_generation;
  update thread_generations g
     set carried_over = (p_copy ->> 'messages')::integer, copied_from = p_copy ->> 'copied_from'
   where g.thread_id = p_thread_id and g.generation = v_generation;
  return v_generation;
end $function$;

CREATE OR REPLACE FUNCTION public.take_walk(p_sweep text)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
declare
  v_after bigint;
begin
  insert into sweep_positions (sweep, after) values (p_sweep, '0') on conflict do nothing;
  select s.after::bigint into v_after from sweep_positions s where s.sweep = p_sweep for update skip locked;
  return v_after;
end $function$;

CREATE OR REPLACE FUNCTION public.tell_lane_change()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  perform pg_notify('inturn_lanes', current_schema());
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.thread_deleted()
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select '{"code": "thread_deleted", "message": "The conversation was deleted before its turn."}'::jsonb
$function$;

CREATE OR REPLACE FUNCTION public.thread_key(p_user_id text DEFAULT NULL::text, p_session_id text DEFAULT NULL::text, p_topic text DEFAULT NULL::text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
 SELECT NULLIF(concat_ws(':'::text, ('user:'::text || thread_key_part(p_user_id)), ('session:'::text || thread_key_part(p_session_id)), ('topic:'::text || thread_key_part(p_topic))), ''::text) AS "nullif";
END;

CREATE OR REPLACE FUNCTION public.thread_key_part(p_key text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
 SELECT replace(replace(p_key, '%'::text, '%25'::text), ':'::text, '%3A'::text) AS replace;
END;

CREATE OR REPLACE FUNCTION public.thread_line(t threads)
 RETURNS TABLE(state text, waiting bigint, active_operation_id bigint, active_operation text, active_since timestamp with time zone, active_run_id text, last_run_id text, last_run_status text, last_run_finished_at timestamp with time zone)
 LANGUAGE sql
 STABLE ROWS 1
BEGIN ATOMIC
 SELECT
         CASE
             WHEN ((thread_line.t).deleted_at IS NOT NULL) THEN 'deleted'::text
             WHEN ((thread_line.t).closed_at IS NOT NULL) THEN 'closed'::text
             WHEN (active.status = 'requires_action'::text) THEN 'requires_action'::text
             WHEN ((head.status = 'pending'::text) AND (head.ready_at = never())) THEN 'held'::text
             WHEN (failure.on_failure = 'halt'::text) THEN 'halted'::text
             WHEN (head.id IS NOT NULL) THEN 'active'::text
             WHEN (((thread_line.t).provider_thread_id IS NULL) AND (last_ended.ended_by = 'expired'::text)) THEN 'expired'::text
             ELSE 'idle'::text
         END AS "case",
     (line.places -
         CASE
             WHEN (active.id IS NULL) THEN 0
             ELSE 1
         END),
     active.id,
     active.operation,
     active.started_at,
         CASE
             WHEN (NOT (COALESCE((head.progress -> 'failed_run_ids'::text), '[]'::jsonb) ? (head.progress ->> 'run_id'::text))) THEN (head.progress ->> 'run_id'::text)
             ELSE NULL::text
         END AS "case",
     (last_run.progress ->> 'run_id'::text),
     COALESCE(((last_run.result -> 'run'::text) ->> 'status'::text), last_run.status) AS "coalesce",
     last_run.finished_at
    FROM (((((( SELECT count(*) AS places
            FROM thread_operations o
           WHERE ((o.thread_id = (thread_line.t).id) AND (o.place IS NOT NULL))) line
      LEFT JOIN LATERAL ( SELECT o.id,
             o.status,
             o.ready_at,
             o.progress
            FROM thread_operations o
           WHERE ((o.thread_id = (thread_line.t).id) AND (o.place IS NOT NULL))
           ORDER BY o.place
          LIMIT 1) head ON (true))
      LEFT JOIN LATERAL ( SELECT o.id,
             o.operation,
             o.status,
             o.started_at
            FROM thread_operations o
           WHERE ((o.thread_id = (thread_line.t).id) AND (o.status = ANY (ARRAY['processing'::text, 'requires_action'::text])))
          LIMIT 1) active ON (true))
      LEFT JOIN LATERAL ( SELECT f.on_failure
            FROM unresumed_failure((thread_line.t).id) f(operation_id, turn, failed_at, on_failure)
           WHERE ((thread_line.t).on_failure = 'halt'::text)
          LIMIT 1) failure ON (true))
      LEFT JOIN LATERAL ( SELECT g.ended_by
            FROM thread_generations g
           WHERE (((thread_line.t).provider_thread_id IS NULL) AND (g.thread_id = (thread_line.t).id) AND (g.generation = (thread_line.t).generation))
          LIMIT 1) last_ended ON (true))
      LEFT JOIN LATERAL ( SELECT latest.turn,
             latest.progress,
             latest.result,
             latest.status,
             latest.finished_at
            FROM ( SELECT o.turn,
                     o.progress,
                     o.result,
                     o.status,
                     o.finished_at
                    FROM thread_operations o
                   WHERE ((o.thread_id = (thread_line.t).id) AND (o.turn IS NOT NULL))
                   ORDER BY o.turn DESC
                  LIMIT 100) latest
           WHERE (latest.progress ? 'run_id'::text)
           ORDER BY latest.turn DESC
          LIMIT 1) last_run ON (true));
END;

CREATE OR REPLACE FUNCTION public.thread_totals(p_thread_id text, p_before bigint, OUT messages bigint, OUT runs bigint, OUT input_tokens bigint, OUT output_tokens bigint)
 RETURNS record
 LANGUAGE sql
 STABLE
BEGIN ATOMIC
 SELECT COALESCE(last.messages_so_far, t.messages_so_far, (0)::bigint) AS "coalesce",
     COALESCE(last.runs_so_far, t.runs_so_far, (0)::bigint) AS "coalesce",
     COALESCE(last.input_tokens_so_far, t.input_tokens_so_far, (0)::bigint) AS "coalesce",
     COALESCE(last.output_tokens_so_far, t.output_tokens_so_far, (0)::bigint) AS "coalesce"
    FROM ((( VALUES (thread_totals.p_thread_id)) thread(id)
      LEFT JOIN threads t ON ((t.id = thread.id)))
      LEFT JOIN LATERAL ( SELECT latest.turn,
             latest.messages_so_far,
             latest.runs_so_far,
             latest.input_tokens_so_far,
             latest.output_tokens_so_far
            FROM ( SELECT o.turn,
                     o.messages_so_far,
                     o.runs_so_far,
                     o.input_tokens_so_far,
                     o.output_tokens_so_far
                    FROM thread_operations o
                   WHERE ((o.thread_id = thread.id) AND (o.turn < thread_totals.p_before))
                   ORDER BY o.turn DESC
                  LIMIT 20) latest
           WHERE (latest.messages_so_far IS NOT NULL)
           ORDER BY latest.turn DESC
          LIMIT 1) last ON (true));
END;

CREATE OR REPLACE FUNCTION public.thread_warning(p_provider text, p_messages bigint, p_max_messages bigint)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
 SELECT format('%s of the %s messages that the provider takes: rotate_thread begins anew, and max_messages of a policy has it done in time'::text, p_messages, messages_limit(p_provider)) AS format
   WHERE (((p_messages)::numeric >= (0.8 * (messages_limit(p_provider))::numeric)) AND (COALESCE(p_max_messages, '9223372036854775807'::bigint) > messages_limit(p_provider)));
END;

CREATE OR REPLACE FUNCTION public.threads_near_limit(p_since timestamp with time zone)
 RETURNS TABLE(thread_id text, messages bigint, warning text)
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET enable_material TO 'off'
 SET jit TO 'off'
AS $function$
declare
  v_way record;
begin
  for v_way in select w.named, w.pattern, (w.policy).max_messages from policy_ways() w loop
    return query execute format($walk$
      select t.id, held.messages, thread_warning(t.provider, held.messages, $4)
        from threads t
        join thread_generations g on g.thread_id = t.id and g.generation = t.generation
       cross join lateral (
         select so_far.messages - g.messages_before + g.carried_over as messages
           from thread_totals(t.id, 9223372036854775807) as so_far) as held
       where t.provider_thread_id is not null and t.closed_at is null and t.lifecycle_operation_id is null
         and %s and pattern_of(t.user_id, t.session_id, t.topic) = $2 and t.last_active_at >= $3
         and messages_limit(t.provider) is not null
         and thread_warning(t.provider, held.messages, $4) is not null
      $walk$, case when v_way.named is null then 't.policy is null' else 't.policy = $1' end)
      using v_way.named, v_way.pattern, p_since, v_way.max_messages;
  end loop;
end $function$;

CREATE OR REPLACE FUNCTION public.totals_after(p_thread_id text, p_turn bigint, p_operation text, p_merges bigint[], p_result jsonb, OUT messages bigint, OUT runs bigint, OUT input_tokens bigint, OUT output_tokens bigint)
 RETURNS record
 LANGUAGE sql
 STABLE
AS $function$
  select before.messages
           + case when p_operation in ('add_message', 'add_message_and_run')
                       and (p_result ? 'message_id' or ended.well) then 1 else 0 end
           + case when ended.well then coalesce(cardinality(p_merges), 0) else 0 end
           + case when p_result ->> 'text' is not null then 1 else 0 end,
         before.runs + case when p_result ? 'run' then 1 else 0 end,
         before.input_tokens + coalesce((p_result #>> '{usage,input_tokens}')::bigint, 0),
         before.output_tokens + coalesce((p_result #>> '{usage,output_tokens}')::bigint, 0)
    from thread_totals(p_thread_id, p_turn) as before,
         (select coalesce(p_result #>> '{run,status}' in ('completed', 'incomplete'), false) as well) as ended
$function$;

CREATE OR REPLACE FUNCTION public.unheard_claims(p_dispatcher text, p_held bigint[])
 RETURNS TABLE(id bigint, attempts integer)
 LANGUAGE sql
 STABLE
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
  select o.id, o.attempts from thread_operations o
   where o.status = 'processing' and o.claimed_by = p_dispatcher and not o.id = any (p_held)
     and not exists (select from unsettled_outcomes u where u.operation_id = o.id and u.attempts = o.attempts)
$function$;

CREATE OR REPLACE FUNCTION public.unresumed_failure(p_thread_id text, OUT operation_id bigint, OUT turn bigint, OUT failed_at timestamp with time zone, OUT on_failure text)
 RETURNS SETOF record
 LANGUAGE sql
 STABLE ROWS 1
BEGIN ATOMIC
 SELECT last.id,
     last.turn,
     last.finished_at,
     t.on_failure
    FROM (threads t
      CROSS JOIN LATERAL ( SELECT o.id,
             o.turn,
             o.operation,
             o.status,
             o.finished_at
            FROM thread_operations o
           WHERE ((o.thread_id = t.id) AND (o.turn IS NOT NULL))
           ORDER BY o.turn DESC
          LIMIT 1) last)
   WHERE ((t.id = unresumed_failure.p_thread_id) AND (t.on_failure <> 'continue'::text) AND (last.status = 'failed'::text) AND (last.operation <> 'expire_thread'::text) AND (last.turn > GREATEST(t.resumed_turn, t.last_turn)));
END;

CREATE OR REPLACE FUNCTION public.wake_dispatchers()
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
begin
  if exists (select from dispatchers where asleep) then
    perform pg_notify('inturn_wake', current_schema());
  end if;
end $function$;

CREATE OR REPLACE FUNCTION public.when_busy(p_strategy text, p_situation text)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  select case
    when p_situation = 'idle' then '{start}'::text[]
    when p_strategy = 'reject' then '{fail}'
    else array_remove(array[
      case when p_strategy in ('interrupt', 'interrupt+merge') and p_situation <> 'others wait' then 'cancel_active' end,
      case when p_situation not like '%others wait' then null
           when p_strategy = 'latest' then 'supersede_waiting'
           when p_strategy in ('merge', 'interrupt+merge') then 'merge_waiting' end,
      'wait'], null)
  end
$function$;

CREATE OR REPLACE FUNCTION public.with_strategy(p_row thread_operations)
 RETURNS thread_operations
 LANGUAGE plpgsql
AS $function$
declare
  v_thread threads;
begin
  if p_row.operation in ('add_message', 'create_run', 'add_message_and_run') then
    select * into v_thread from threads t where t.id = p_row.thread_id;
  end if;
  p_row.if_busy := nullif(coalesce(p_row.if_busy, v_thread.if_busy), 'enqueue');
  p_row.debounce_ms := coalesce(p_row.debounce_ms, v_thread.debounce_ms);
  p_row.debounce_max_ms := case when p_row.debounce_ms is not null then
    coalesce(p_row.debounce_max_ms, v_thread.debounce_max_ms, 10 * p_row.debounce_ms) end;
  return p_row;
end $function$;

CREATE OR REPLACE FUNCTION public.worked_elsewhere(p_row thread_operations, p_provider_thread_id text)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  select not coalesce(p_row.progress ? 'deleting' or p_row.progress ->> 'provider_thread_id' = p_provider_thread_id, false)
     and exists (
       select from thread_generations g
        where g.thread_id = p_row.thread_id
          and g.ended_at > coalesce(p_row.started_at, (
                select max(e.at) from operation_events e
                 where e.thread_id = p_row.thread_id and e.operation_id = p_row.id and e.to_status = 'processing')))
$function$;

CREATE OR REPLACE FUNCTION public.write_tool_calls(p_dispatcher text, p_id bigint, p_attempts integer, p_calls jsonb, p_deadline_ms double precision, OUT round integer, OUT ms_left double precision)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "inturn.line" TO 'on'
 SET lock_timeout TO '1s'
 SET enable_seqscan TO 'off'
AS $function$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_thread text;
begin
  select o.thread_id into v_thread from thread_operations o
   where o.id = p_id and o.claimed_by = p_dispatcher and o.attempts = p_attempts for update;
  if not found then
    return;
  end if;
  if not exists (select from tool_calls c where c.operation_id = p_id and c.call_id = p_calls -> 0 ->> 'call_id') then
    -- In the order in which the model has asked.
    insert into tool_calls (operation_id, call_id, thread_id, round, type, name, arguments, deadline, created_at)
    select p_id, call.call_id, v_thread, (select coalesce(max(c.round), 0) + 1 from tool_calls c where c.operation_id = p_id),
           call.type, call.name, call.arguments, v_now + p_deadline_ms * interval '1 millisecond', v_now + call.n * interval '1 microsecond'
      from rows from (jsonb_to_recordset(p_calls) as (call_id text, type text, name text, arguments text))
             with ordinality as call (call_id, type, name, arguments, n)
        on conflict do nothing;
    perform pg_notify('inturn_beside', current_schema());
  end if;
  select c.round, extract(epoch from c.deadline - v_now) * 1000 into round, ms_left
    from tool_calls c where c.operation_id = p_id and c.call_id = p_calls -> 0 ->> 'call_id';
end $function$;

CREATE TRIGGER tell_lane_change AFTER INSERT OR DELETE OR UPDATE ON public.lanes FOR EACH ROW EXECUTE FUNCTION tell_lane_change();

CREATE TRIGGER refuse_rewriting_history BEFORE DELETE OR UPDATE OR TRUNCATE ON public.operation_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting_history();

CREATE TRIGGER arrive AFTER INSERT ON public.thread_operations FOR EACH ROW WHEN (((new.status = 'failed'::text) OR (new.if_busy = ANY (ARRAY['interrupt'::text, 'interrupt+merge'::text])) OR (new.operation = 'delete_thread'::text))) EXECUTE FUNCTION arrive();

CREATE TRIGGER forget_streams AFTER DELETE ON public.thread_operations REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION forget_streams();

CREATE TRIGGER forget_tool_calls AFTER DELETE ON public.thread_operations REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION forget_tool_calls();

CREATE TRIGGER guard_operation BEFORE UPDATE ON public.thread_operations FOR EACH ROW EXECUTE FUNCTION guard_operation();

CREATE TRIGGER join_line BEFORE INSERT ON public.thread_operations FOR EACH ROW EXECUTE FUNCTION join_line();

CREATE TRIGGER record_events AFTER UPDATE ON public.thread_operations REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_events();

CREATE TRIGGER refuse_delete_of_unfinished BEFORE DELETE ON public.thread_operations FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_unfinished();

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON public.thread_operations FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TRIGGER remember_last_turn AFTER DELETE ON public.thread_operations REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION remember_last_turn();

CREATE TRIGGER z_move_on_after_cancel AFTER UPDATE ON public.thread_operations REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT WHEN ((current_setting('inturn.line'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION move_on_after_cancel();

CREATE TRIGGER check_policy BEFORE INSERT OR UPDATE ON public.thread_policies FOR EACH ROW EXECUTE FUNCTION check_policy();

CREATE TRIGGER refuse_delete_of_used_policy BEFORE DELETE ON public.thread_policies FOR EACH ROW EXECUTE FUNCTION refuse_loss_of_used_policy();

CREATE TRIGGER refuse_rename_of_used_policy BEFORE UPDATE OF name ON public.thread_policies FOR EACH ROW WHEN ((old.name <> new.name)) EXECUTE FUNCTION refuse_loss_of_used_policy();

CREATE TRIGGER check_thread_policy BEFORE INSERT OR UPDATE OF policy ON public.threads FOR EACH ROW WHEN ((new.policy IS NOT NULL)) EXECUTE FUNCTION check_thread_policy();

CREATE TRIGGER keep_first_generation AFTER INSERT ON public.threads FOR EACH ROW WHEN ((new.provider_thread_id IS NOT NULL)) EXECUTE FUNCTION keep_generations();

CREATE TRIGGER keep_generations AFTER UPDATE ON public.threads FOR EACH ROW WHEN ((new.provider_thread_id IS DISTINCT FROM old.provider_thread_id)) EXECUTE FUNCTION keep_generations();

CREATE TRIGGER move_on_after_change AFTER UPDATE OF on_failure, resumed_turn ON public.threads FOR EACH ROW WHEN (((old.on_failure IS DISTINCT FROM new.on_failure) OR (old.resumed_turn IS DISTINCT FROM new.resumed_turn))) EXECUTE FUNCTION move_on_after_change();

CREATE TRIGGER number_first_generation BEFORE INSERT ON public.threads FOR EACH ROW WHEN ((new.provider_thread_id IS NOT NULL)) EXECUTE FUNCTION number_generation();

CREATE TRIGGER number_generation BEFORE UPDATE ON public.threads FOR EACH ROW WHEN (((new.provider_thread_id IS DISTINCT FROM old.provider_thread_id) AND (new.provider_thread_id IS NOT NULL))) EXECUTE FUNCTION number_generation();

CREATE TRIGGER refuse_delete_of_open_call BEFORE DELETE ON public.tool_calls FOR EACH ROW WHEN (((old.output IS NULL) AND (current_setting('inturn.line'::text, true) IS DISTINCT FROM 'on'::text))) EXECUTE FUNCTION refuse_tool_call();

CREATE TRIGGER refuse_tool_call BEFORE INSERT OR UPDATE ON public.tool_calls FOR EACH ROW WHEN ((current_setting('inturn.line'::text, true) IS DISTINCT FROM 'on'::text)) EXECUTE FUNCTION refuse_tool_call();

create view dead_letters as
 SELECT o.id,
    o.thread_id,
    o.operation,
    o.turn,
    o.finished_at AS failed_at,
    o.error ->> 'code'::text AS code,
    o.error,
    story.attempts
   FROM thread_operations o
     LEFT JOIN LATERAL ( SELECT jsonb_agg(jsonb_build_object('attempt', began.attempt, 'turn', began.turn, 'dispatcher', began.actor, 'started_at', began.at, 'ended_at', ended.at, 'status', ended.to_status, 'code', ended.code, 'detail', ended.detail, 'run_id', ended.run_id) ORDER BY began.id) AS attempts
           FROM operation_events began
             LEFT JOIN LATERAL ( SELECT e.at,
                    e.to_status,
                    e.code,
                    e.detail,
                    e.run_id
                   FROM operation_events e
                  WHERE e.thread_id = began.thread_id AND e.operation_id = began.operation_id AND e.id > began.id AND (e.from_status = ANY (ARRAY['processing'::text, 'requires_action'::text])) AND (e.to_status <> ALL (ARRAY['processing'::text, 'requires_action'::text]))
                  ORDER BY e.id
                 LIMIT 1) ended ON true
          WHERE began.thread_id = o.thread_id AND began.operation_id = o.id AND began.from_status = 'pending'::text AND began.to_status = 'processing'::text) story ON true
  WHERE o.status = 'failed'::text AND o.turn IS NOT NULL;

create view lane_states as
 SELECT provider,
    key,
    model,
        CASE
            WHEN rests THEN 'resting'::text
            WHEN runs >= max_runs THEN 'full'::text
            ELSE 'open'::text
        END AS state,
    runs,
    max_runs,
    ( SELECT count(*) AS count
           FROM thread_operations o
          WHERE o.finished_at IS NULL AND o.status = 'pending'::text AND o.provider = lane.provider AND (o.error ->> 'lane'::text) = lane_name(lane.key, lane.model)) AS waiting,
        CASE
            WHEN rests THEN paused_at
            ELSE NULL::timestamp with time zone
        END AS paused_at,
        CASE
            WHEN rests THEN paused_until
            ELSE NULL::timestamp with time zone
        END AS paused_until,
        CASE
            WHEN rests THEN reason
            ELSE NULL::text
        END AS reason,
    strikes,
        CASE
            WHEN rests THEN probed_at
            ELSE NULL::timestamp with time zone
        END AS probed_at
   FROM ( SELECT l.provider,
            l.key,
            l.model,
            l.max_runs,
            l.paused_at,
            l.paused_until,
            l.reason,
            l.strikes,
            l.probed_at,
            l.created_at,
            l.updated_at,
            COALESCE(l.paused_until > clock_timestamp(), false) AS rests,
                CASE
                    WHEN l.max_runs IS NOT NULL THEN ( SELECT count(*) AS count
                       FROM lane_runs r
                         JOIN thread_operations o ON o.id = r.operation_id AND holds_place(o.*)
                      WHERE r.provider = l.provider AND r.key = l.key AND (l.model = ''::text OR l.model = r.model))
                    ELSE NULL::bigint
                END AS runs
           FROM lanes l) lane;

create view thread_states as
 SELECT t.id AS thread_id,
    line.state,
    line.waiting,
    line.active_operation_id,
    line.active_operation,
    line.active_since,
    line.last_run_id,
    line.last_run_status,
    line.last_run_finished_at,
    COALESCE(t.provider, NULLIF(provider_of(t.id, ''::text, '{}'::jsonb, NULL::text), ''::text)) AS provider,
    t.provider_thread_id,
    t.metadata,
    t.created_at
   FROM threads t
     CROSS JOIN LATERAL thread_line(t.*) line(state, waiting, active_operation_id, active_operation, active_since, active_run_id, last_run_id, last_run_status, last_run_finished_at)
UNION ALL
 SELECT o.thread_id,
    'active'::text AS state,
    count(*) AS waiting,
    NULL::bigint AS active_operation_id,
    NULL::text AS active_operation,
    NULL::timestamp with time zone AS active_since,
    NULL::text AS last_run_id,
    NULL::text AS last_run_status,
    NULL::timestamp with time zone AS last_run_finished_at,
    NULLIF(provider_of(o.thread_id, ''::text, '{}'::jsonb, NULL::text), ''::text) AS provider,
    NULL::text AS provider_thread_id,
    NULL::jsonb AS metadata,
    NULL::timestamp with time zone AS created_at
   FROM thread_operations o
  WHERE o.place IS NOT NULL AND NOT (EXISTS ( SELECT
           FROM threads t
          WHERE t.id = o.thread_id))
  GROUP BY o.thread_id;

create view thread_stats as
 SELECT t.id AS thread_id,
    line.state,
    t.user_id,
    t.session_id,
    t.topic,
    t.labels,
    t.metadata,
    COALESCE(t.provider, NULLIF(provider_of(t.id, ''::text, '{}'::jsonb, NULL::text), ''::text)) AS provider,
    t.provider_thread_id,
    t.generation,
    t.generation_since,
    current.copied_from,
    policy.name AS policy,
    this_generation.messages,
    this_generation.tokens,
    so_far.messages AS messages_total,
    so_far.runs,
    so_far.input_tokens,
    so_far.output_tokens,
    line.waiting,
    line.active_operation_id,
    line.active_operation,
    line.active_since,
    line.active_run_id,
    line.last_run_id,
    line.last_run_status,
    line.last_run_finished_at,
    t.last_active_at,
    expiry.at AS expires_at,
    expiry.because AS expires_because,
    policy.max_messages AS rotates_at_messages,
    policy.max_tokens AS rotates_at_tokens,
        CASE
            WHEN t.provider_thread_id IS NOT NULL THEN t.generation_since + policy.max_age
            ELSE NULL::timestamp with time zone
        END AS rotates_after,
    thread_warning(t.provider, this_generation.messages, policy.max_messages) AS warning,
    archive.count AS archives,
    archive.last_id AS last_archive_id,
    archive.last_at AS last_archived_at,
    t.created_at
   FROM threads t
     CROSS JOIN LATERAL thread_line(t.*) line(state, waiting, active_operation_id, active_operation, active_since, active_run_id, last_run_id, last_run_status, last_run_finished_at)
     LEFT JOIN LATERAL ( SELECT g.copied_from,
            g.messages_before,
            g.tokens_before,
            g.carried_over
           FROM thread_generations g
          WHERE g.thread_id = t.id AND g.generation = t.generation
         LIMIT 1) current ON true
     CROSS JOIN LATERAL thread_totals(t.id, '9223372036854775807'::bigint) so_far(messages, runs, input_tokens, output_tokens)
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN t.provider_thread_id IS NULL THEN 0::bigint
                    ELSE so_far.messages - current.messages_before + current.carried_over
                END AS messages,
                CASE
                    WHEN t.provider_thread_id IS NULL THEN 0::bigint
                    ELSE so_far.input_tokens + so_far.output_tokens - current.tokens_before
                END AS tokens) this_generation
     LEFT JOIN LATERAL policy_of(t.policy, t.user_id, t.session_id, t.topic) policy(name, pattern, absolute_ttl, idle_ttl, on_expiry, max_messages, max_age, max_tokens, carry_over, delete_rotated, archive_on_delete, reopen, archive_retention, operation_retention, created_at, updated_at) ON true
     LEFT JOIN LATERAL ( SELECT ttl.at,
            ttl.because
           FROM ( VALUES (t.last_active_at + policy.idle_ttl,'idle'::text), (t.generation_since + policy.absolute_ttl,'absolute'::text)) ttl(at, because)
          WHERE ttl.at IS NOT NULL AND t.provider_thread_id IS NOT NULL AND t.closed_at IS NULL
          ORDER BY ttl.at
         LIMIT 1) expiry ON true
     CROSS JOIN LATERAL ( SELECT count(*) AS count,
            max(a.id) AS last_id,
            max(a.archived_at) AS last_at
           FROM thread_archives a
          WHERE a.thread_id = t.id) archive;

create view thread_timeline as
 SELECT story.thread_id,
    story.at,
    story.operation_id,
    o.operation,
    COALESCE(story.turn, o.turn) AS turn,
    story.event,
    story.attempt,
    story.actor,
    story.code,
    story.run_id
   FROM ( SELECT c.thread_id,
            c.created_at AS at,
            c.id AS operation_id,
            c.turn,
                CASE
                    WHEN c.finished_at = c.created_at THEN 'was asked for'::text
                    WHEN c.scheduled_at > c.created_at THEN 'was scheduled for '::text || date_trunc('second'::text, c.scheduled_at)
                    WHEN c.operation = ANY (ARRAY['cancel_run'::text, 'submit_tool_outputs'::text]) THEN 'was asked for'::text
                    ELSE 'joined the line'::text
                END AS event,
            NULL::integer AS attempt,
            c.created_by AS actor,
            NULL::text AS code,
            NULL::text AS run_id,
            0 AS nth
           FROM thread_operations c
        UNION ALL
         SELECT e.thread_id,
            e.at,
            e.operation_id,
            e.turn,
                CASE
                    WHEN e.to_status = e.from_status THEN 'was resumed'::text
                    WHEN e.code = 'thread_busy'::text AND e.from_status = 'pending'::text THEN 'was refused, behind operation '::text || (e.detail ->> 'operation_id'::text)
                    WHEN e.code = 'superseded'::text THEN 'was superseded by operation '::text || (e.detail ->> 'operation_id'::text)
                    WHEN e.code = 'merged'::text THEN 'was merged into operation '::text || (e.detail ->> 'operation_id'::text)
                    WHEN e.from_status = 'scheduled'::text AND e.to_status = 'pending'::text THEN 'joined the line'::text
                    WHEN e.to_status = 'pending'::text AND (e.from_status = ANY (ARRAY['failed'::text, 'cancelled'::text])) THEN 'went back into the line'::text
                    WHEN e.to_status = 'pending'::text AND e.retry_at = never() THEN 'is held for an operator'::text
                    WHEN e.to_status = 'processing'::text AND e.from_status = 'requires_action'::text THEN 'went on'::text
                    WHEN e.to_status = 'processing'::text AND e.attempt = 1 THEN 'started'::text
                    WHEN e.to_status = 'processing'::text THEN 'started again'::text
                    WHEN e.to_status = 'requires_action'::text THEN 'waits for tool outputs'::text
                    WHEN e.to_status = 'pending'::text AND e.code IS NOT NULL THEN 'will be tried again at '::text || date_trunc('second'::text, e.retry_at)
                    WHEN e.to_status = 'pending'::text THEN 'was given back'::text
                    ELSE e.to_status
                END AS to_status,
            e.attempt,
            e.actor,
            e.code,
            e.run_id,
            e.id
           FROM operation_events e) story
     LEFT JOIN thread_operations o ON o.id = story.operation_id
  ORDER BY story.at, story.operation_id, story.nth;

create view waiting_operations as
 SELECT o.id,
    o.thread_id,
    o.operation,
    o.priority,
    row_number() OVER (PARTITION BY o.thread_id ORDER BY o.place) AS "position",
    COALESCE(o.head_since, clock_timestamp()) - o.created_at AS waited_for_thread,
        CASE
            WHEN o.head_since IS NOT NULL THEN clock_timestamp() - o.head_since
            ELSE NULL::interval
        END AS waited_as_head,
        CASE
            WHEN active.held_until IS NOT NULL THEN format('behind operation %s, a hold of %s until %s'::text, active.id, active.claimed_by, date_trunc('second'::text, active.held_until))
            WHEN active.id IS NOT NULL THEN format('behind operation %s, %s since %s'::text, active.id, active.status, date_trunc('second'::text, active.started_at))
            WHEN failure.on_failure = 'halt'::text THEN format('halted since operation %s failed: resume_thread or retry_operation'::text, failure.operation_id)
            WHEN o.id <> first.id AND first.ready_at = never() THEN format('behind operation %s, which is held for an operator'::text, first.id)
            WHEN o.id <> first.id THEN 'behind the operations before it'::text
            WHEN o.ready_at = never() THEN 'held for an operator: '::text || COALESCE(o.error ->> 'code'::text, 'resume_thread'::text)
            WHEN o.ready_at IS NULL THEN 'its turn: the next sweep marks it'::text
            WHEN o.ready_at > clock_timestamp() AND o.turn IS NULL AND o.debounce_ms IS NOT NULL THEN format('debounces until %s'::text, date_trunc('second'::text, o.ready_at))
            WHEN o.ready_at > clock_timestamp() THEN format('attempt %s is due at %s%s'::text, o.attempts + 1, date_trunc('second'::text, o.ready_at), (' ('::text || (o.error ->> 'code'::text)) || ')'::text)
            WHEN NOT (EXISTS ( SELECT
               FROM dispatchers d
              WHERE d.beat_at > (clock_timestamp() - d.lease_ms::double precision * '00:00:00.001'::interval) AND ((o.provider = ANY (d.providers)) OR o.provider = ''::text AND cardinality(d.providers) > 0))) THEN
            CASE
                WHEN o.provider = ''::text THEN 'no dispatcher is running'::text
                ELSE format('no dispatcher serves the provider %s'::text, o.provider)
            END
            ELSE concat('ready: waits for a free slot', resting_key.told)
        END AS waits_for,
    o.ready_at,
    o.attempts,
    o.error ->> 'code'::text AS last_error_code,
    o.created_at
   FROM thread_operations o
     LEFT JOIN thread_operations active ON active.thread_id = o.thread_id AND (active.status = ANY (ARRAY['processing'::text, 'requires_action'::text]))
     LEFT JOIN LATERAL ( SELECT format('; a key of its provider rests (%s)'::text, l.reason) AS told
           FROM lanes l
          WHERE (o.provider = ''::text OR o.provider = l.provider) AND l.model = ''::text AND l.paused_until > clock_timestamp()
          ORDER BY l.paused_until DESC
         LIMIT 1) resting_key ON true
     LEFT JOIN LATERAL unresumed_failure(o.thread_id) failure(operation_id, turn, failed_at, on_failure) ON true
     CROSS JOIN LATERAL ( SELECT f.id,
            f.ready_at
           FROM thread_operations f
          WHERE f.thread_id = o.thread_id AND f.place IS NOT NULL
          ORDER BY f.place
         LIMIT 1) first
  WHERE o.place IS NOT NULL AND o.status = 'pending'::text;
