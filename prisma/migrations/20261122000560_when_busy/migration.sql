-- When the thread is busy: what becomes of an operation that meets others of its thread. What concerns
-- the operation itself and whoever is being served happens at its INSERT, which takes no lock; what
-- concerns those who wait is arranged when the line moves on (see arranging).

-- Decides, for every strategy and situation, and is the only one that does; docs/when-busy.md is made
-- from it. The situation is that of the line before the operation: `idle`; `others wait`, and nobody was
-- started; or what was started last, `processing`, `requires_action` or `retrying` (between two
-- attempts, or held), with `, others wait` where it is not alone.
create function when_busy(p_strategy text, p_situation text) returns text[] language sql immutable parallel safe as $$
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
$$;

create function situation_before(p_thread_id text, p_place bigint) returns text language plpgsql stable as $$
begin
  return coalesce(nullif(concat_ws(', ',
    (select case o.status when 'pending' then 'retrying' else o.status end from thread_operations o
      where o.thread_id = p_thread_id and o.place = started_place()),
    (select 'others wait' from thread_operations o
      where o.thread_id = p_thread_id and o.place > started_place() and o.place < p_place order by o.place limit 1)), ''), 'idle');
end $$;

create function busy_error(p_operation_id bigint) returns jsonb language sql immutable as $$
  select jsonb_build_object('code', 'thread_busy', 'operation_id', p_operation_id,
    'message', format('The thread was busy with operation %s, and if_busy is reject.', p_operation_id))
$$;

-- A new operation with its strategy and its pause: its own or, where it says or asks for something,
-- those of its thread. Who changes the thread or holds it stands in line, unless it says otherwise itself.
create function with_strategy(p_row thread_operations) returns thread_operations language plpgsql as $$
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
end $$;

-- A new operation that has met others: failed, where it does not wait.
create function refused_if_busy(p_row thread_operations) returns thread_operations language plpgsql as $$
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
end $$;

-- Asks for the run to be cancelled that was going on when this operation joined its line, never for the
-- next one. What has no run, such as a message or a hold, is not interrupted.
create function interrupt_active(p_row thread_operations) returns void language plpgsql as $$
begin
  insert into thread_operations (thread_id, operation, data)
  select a.thread_id, 'cancel_run', jsonb_build_object('operation_id', a.id, 'interrupted_by', p_row.id)
    from thread_operations a
   where a.thread_id = p_row.thread_id and a.place = started_place()
     and a.operation in ('create_run', 'add_message_and_run')
     and (a.started_at <= p_row.created_at or p_row.place <> p_row.id)
     and 'cancel_active' = any (when_busy(p_row.if_busy, situation_before(p_row.thread_id, p_row.place)))
     and cancellation_of(a.id) is null;
end $$;

-- After the INSERT, because a row that meets its idempotency key is not inserted.
create function arrive() returns trigger language plpgsql security definer
  set search_path from current set enable_seqscan = off
as $$
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
end $$;

create trigger arrive after insert on thread_operations
  for each row when (new.status = 'failed' or new.if_busy in ('interrupt', 'interrupt+merge') or new.operation = 'delete_thread')
  execute function arrive();

-- For an operation that was scheduled: it counts as arriving when it joins its line.
create function arrive_when_due(p_id bigint) returns void language plpgsql as $$
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
end $$;
