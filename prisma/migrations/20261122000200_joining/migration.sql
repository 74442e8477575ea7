-- Joining a line. An INSERT checks its row, draws a place and marks itself as the head where it sees
-- an empty line. It takes no lock: whoever is missed because two transactions overlapped is found by
-- the dispatcher that emptied the line, or by the sweep.

-- The provider an operation goes to: what a create_thread names, what its thread has, or the kind of
-- object its id is. Empty: nobody has said, the default of the dispatcher that starts it decides.
create function provider_of(p_thread_id text, p_operation text, p_data jsonb, p_thread_provider text)
returns text language sql immutable as $$
  select coalesce(
    p_thread_provider,
    case when p_operation = 'create_thread' then p_data ->> 'provider' end,
    case
      when p_thread_id ~ '^thread_[A-Za-z0-9]{24}$' then 'assistants'
      when p_thread_id ~ '^conv_[0-9a-f]{32,}$' then 'responses'
    end,
    '')
$$;

-- Who is at the other end of this session, for people who read the ledger. session_user, because
-- current_user is the owner inside a security definer function.
create function session_actor() returns text language sql stable as $$
  select case when current_setting('application_name') = '' then session_user::text
              else session_user || ' (' || current_setting('application_name') || ')' end
$$;

-- Says what is wrong with a new row. Apart from join_line, because every expression there costs every INSERT.
create function refuse_row(p_row thread_operations) returns void language plpgsql as $$
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
end $$;

-- NOTIFY takes a lock that serializes commits, so it is sent only to dispatchers that said they sleep.
create function wake_dispatchers() returns void language plpgsql security definer set search_path from current as $$
begin
  if exists (select from dispatchers where asleep) then
    perform pg_notify('inturn_wake', current_schema());
  end if;
end $$;

-- Security definer and volatile: the look at the line must see all rows, and the newest. Few and large
-- expressions, because each is prepared anew in every transaction. Without
-- sequential scans, and ordered by place, the look has one plan, a probe of line_by_place: by some
-- statistics the planner would scan the table, or pass all that the thread has finished.
create function join_line() returns trigger language plpgsql security definer
  set search_path from current set enable_seqscan = off
as $$
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
end $$;

create trigger join_line before insert on thread_operations
  for each row execute function join_line();
