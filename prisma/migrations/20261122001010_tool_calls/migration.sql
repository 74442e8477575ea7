-- Tool calls: what a run asks of its caller, and what came of it. The operation waits in requires_action,
-- with its deadline as its mark, and goes on when the last call of the round has its output.
--
-- Whoever writes an output takes the operation's row first, and passes over it where somebody has it:
-- so a dispatcher that settles into requires_action at that moment, and looks again afterwards, sees
-- every output that did not see it.

create table tool_calls (
  operation_id  bigint not null,
  call_id       text not null,
  thread_id     text not null,
  round         integer not null,
  type          text not null,
  name          text not null,
  arguments     text not null,
  deadline      timestamptz(6) not null,
  claimed_by    text,
  attempts      integer not null default 0,
  output        jsonb,
  is_error      boolean not null default false,
  answered_by   text,
  created_at    timestamptz(6) not null default clock_timestamp(),
  answered_at   timestamptz(6),
  primary key (operation_id, call_id)
);
-- Serves every question about calls that nobody has answered, whatever else it asks.
create index open_tool_calls on tool_calls (name, created_at) where output is null;

create function refuse_tool_call() returns trigger language plpgsql as $$
begin
  raise check_violation using
    constraint = 'tool_call_is_guarded',
    message = format('%s of tool_calls is refused: only inturn writes what is asked and answered', lower(tg_op)),
    hint = 'To answer a call: INSERT INTO thread_operations (thread_id, operation, data) VALUES (''user:42'', ''submit_tool_outputs'', ''{"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}'');';
end $$;

create trigger refuse_tool_call before insert or update on tool_calls
  for each row when (current_setting('inturn.line', true) is distinct from 'on') execute function refuse_tool_call();
create trigger refuse_delete_of_open_call before delete on tool_calls
  for each row when (old.output is null and current_setting('inturn.line', true) is distinct from 'on') execute function refuse_tool_call();

-- Arguments and outputs are content: they go with the operation.
create function forget_tool_calls() returns trigger language plpgsql security definer
  set search_path from current set inturn.line = 'on' set enable_seqscan = off as $$
begin
  delete from tool_calls c using old_rows gone where c.operation_id = gone.id;
  return null;
end $$;

create trigger forget_tool_calls after delete on thread_operations
  referencing old table as old_rows for each statement execute function forget_tool_calls();

-- Has those of these operations go on whose calls all have an output.
create function go_on_where_answered(p_ids bigint[]) returns boolean language plpgsql as $$
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
end $$;

-- Writes down what a run asks for, while the claim is the caller's own; again, it changes nothing. Null:
-- the claim is lost. Else the round of these calls, and in how many milliseconds they must be answered.
create function write_tool_calls(p_dispatcher text, p_id bigint, p_attempts integer, p_calls jsonb, p_deadline_ms float8,
                                 out round integer, out ms_left float8)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '1s' set enable_seqscan = off
as $$
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
end $$;

-- Answers what is open of a claim's operation: by its deadline, or because its turn is given up. False:
-- the claim is lost.
create function answer_open_calls(p_dispatcher text, p_id bigint, p_attempts integer, p_output jsonb) returns boolean
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '1s' set enable_seqscan = off
as $$
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
end $$;

-- Whoever cancels an operation by a plain UPDATE leaves nobody who could read the outputs.
create function close_tool_calls(p_ids bigint[]) returns void language sql as $$
  update tool_calls c
     set output = to_jsonb('{"error": "The operation was cancelled before this call was answered."}'::text),
         is_error = true, answered_by = session_actor(), answered_at = clock_timestamp()
   where c.operation_id = any (p_ids) and c.output is null
$$;

-- Takes open calls of these names for a dispatcher's tools, the oldest first; also those of dispatchers
-- that are gone, and its own but for those that it holds: the answer that told of them was lost. What
-- somebody's transaction holds is left for later.
create function claim_tool_calls(p_dispatcher text, p_names text[], p_held_operations bigint[], p_held_calls text[], p_limit integer)
returns table (operation_id bigint, call_id text, thread_id text, operation text, type text, name text, arguments text, attempts integer)
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '20ms' set enable_seqscan = off
as $$
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
end $$;

-- Stores what a tool gave. `late`: the call was answered by others, or is theirs to answer; `locked`:
-- somebody's transaction holds the operation or the call.
create function answer_tool_call(
  p_dispatcher text, p_operation_id bigint, p_call_id text, p_attempts integer, p_output jsonb, p_is_error boolean) returns text
language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '20ms' set enable_seqscan = off
as $$
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
end $$;

-- Gives back a dispatcher's own calls, which others may begin anew.
create function give_back_tool_calls(p_dispatcher text) returns void language plpgsql security definer
  set search_path from current set inturn.line = 'on' set lock_timeout = '1s' set enable_seqscan = off
as $$
begin
  update tool_calls c set claimed_by = null where c.output is null and c.claimed_by = p_dispatcher;
  if found then
    perform pg_notify('inturn_beside', current_schema());
  end if;
end $$;
