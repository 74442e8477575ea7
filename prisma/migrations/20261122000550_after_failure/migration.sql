-- After a failure: whether a line goes on, waits for an operator, or loses all that waited. Nothing of
-- it is stored: it follows from the operation that was started last, so no lock on `threads` is needed.

-- The failure after which this line does not simply go on: its thread says `halt` or `cancel_rest`, and
-- the operation that was started last has failed; what a sweep has asked for does not count. No row where it goes on, also because an operator
-- resumed it, had that operation served again or deleted it (last_turn). The body is parsed here and now
-- (`begin atomic`), because views call it from sessions that look elsewhere for their tables.
create function unresumed_failure(p_thread_id text, out operation_id bigint, out turn bigint, out failed_at timestamptz, out on_failure text)
returns setof record language sql stable rows 1 begin atomic
  select last.id, last.turn, last.finished_at, t.on_failure
    from threads t
   cross join lateral (
     select o.id, o.turn, o.operation, o.status, o.finished_at from thread_operations o
      where o.thread_id = t.id and o.turn is not null order by o.turn desc limit 1) as last
   where t.id = p_thread_id and t.on_failure <> 'continue'
     and last.status = 'failed' and last.operation <> 'expire_thread' and last.turn > greatest(t.resumed_turn, t.last_turn);
end;

create function line_is_halted(p_thread_id text) returns boolean language sql stable as $$
  select exists (select from unresumed_failure(p_thread_id) as failure where failure.on_failure = 'halt')
$$;

-- Whether an operation that was never started stood in its line at that moment. One that was sent back
-- to it, or joined later (its place is not its id), has stood there since then; the ledger knows.
create function stood_in_line(p_id bigint, p_thread_id text, p_place bigint, p_created_at timestamptz, p_at timestamptz)
returns boolean language sql stable as $$
  select case when p_place = p_id then p_created_at <= p_at
              else (select max(e.at) from operation_events e
                     where e.thread_id = p_thread_id and e.operation_id = p_id
                       and e.to_status = 'pending' and e.from_status in ('failed', 'cancelled', 'scheduled')) <= p_at end
$$;

-- Whether the failure before it lets an operation start. Asked only where its thread does not `continue`.
create function may_start(p_id bigint) returns boolean language sql stable as $$
  select not exists (
    select from thread_operations o
     cross join lateral unresumed_failure(o.thread_id) as failure
     where o.id = p_id and o.turn is null and o.operation <> 'delete_thread'
       and (failure.on_failure = 'halt'
            or stood_in_line(o.id, o.thread_id, o.place, o.created_at, failure.failed_at) and not is_sent_along(o)))
$$;

-- Cancels what waited in these lines when one of their operations failed, where the thread says so: up
-- to 1000 a line, and not what somebody's transaction holds. What is left is cancelled when it is the
-- head and a claim meets it.
create function cancel_rest(p_threads text[]) returns void language plpgsql as $$
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
end $$;

-- Whoever lets a halted line go on by an UPDATE of its thread marks its head.
create function move_on_after_change() returns trigger language plpgsql security definer
  set search_path from current set inturn.line = 'on' set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_incremental_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
  if mark_heads((next_in_line(array[new.id])).waiting) > 0 then
    perform wake_dispatchers();
  end if;
  return null;
end $$;

create trigger move_on_after_change after update of on_failure, resumed_turn on threads
  for each row when ((old.on_failure, old.resumed_turn) is distinct from (new.on_failure, new.resumed_turn))
  execute function move_on_after_change();
